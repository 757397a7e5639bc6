"""Exports as the tools of systematic reviewers write them: headers and quirks, invented content.

Each is read, and written back in its own format (or as RIS) with tags, without losing anything.
`docs/formats.md` has a row for each tool.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from studytag.errors import InputError
from studytag.files import open_writer, read_rows, tagged
from studytag.records import clean

TITLE = "Sealants in children: a made-up trial"
ABSTRACT = "BACKGROUND: Nothing is known. METHODS: We randomised forty children. RESULTS: None."
FULL = {"title": TITLE, "abstract": ABSTRACT, "year": 2020}
PMID = FULL | {"pmid": "90000001"}
TAGS = {"studytag_labels": ["RCT"], "p_RCT": 0.9, "studytag_error": None}


def table(header: str, *, delimiter: str = ",", before: str = "", **cells: str) -> str:
    """A table of one record under the columns that a tool writes; `cells` by words of the name."""
    names = header.split("|")
    values = {re.sub(r"\W+", "_", name).strip("_").lower(): "" for name in names} | cells
    unknown = values.keys() - {re.sub(r"\W+", "_", name).strip("_").lower() for name in names}
    assert not unknown, unknown
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerow(names)
    writer.writerow(values[re.sub(r"\W+", "_", name).strip("_").lower()] for name in names)
    return before + stream.getvalue()


def wrapped(text: str, indent: int) -> str:
    """A text on two lines."""
    first, _, rest = text.partition(" ")
    return f"{first}\n{' ' * indent}{rest}"


EXPORTS: dict[str, tuple[str, str | bytes, dict]] = {
    "PubMed": (
        "pubmed-set.nbib",
        f"""
PMID- 90000001
OWN - NLM
STAT- MEDLINE
DCOM- 20200801
IS  - 1111-1111 (Print)
VI  - 12
IP  - 3
DP  - 2020 May
TI  - Sealants in children: a made-up
      trial
PG  - 100-9
LID - 10.1000/x [doi]
AB  - {wrapped(ABSTRACT, 6)}
FAU - Example, Anna
AU  - Example A
AD  - Nowhere University.
LA  - eng
PT  - Randomized Controlled Trial
PL  - England
TA  - J Ex
JT  - Journal of examples
MH  - *Caries/prevention & control
MH  - Humans
SO  - J Ex. 2020 May;12(3):100-9.

""",
        PMID | {"mesh_terms": ["Caries", "Humans"], "journal": "Journal of examples"},
    ),
    "PubMed CSV": (
        "csv-set.csv",
        table(
            "PMID|Title|Authors|Citation|First Author|Journal/Book|Publication Year|Create Date|"
            "PMCID|NIHMS ID|DOI",
            **{"pmid": "90000001", "title": TITLE, "publication_year": "2020"},
            **{"authors": "Example A, Sample B.", "journal_book": "J Ex", "doi": "10.1000/x"},
        ),
        {"title": TITLE, "pmid": "90000001", "year": 2020, "journal": "J Ex"},
    ),
    "PubMed XML": (
        "pubmed.xml",
        '<?xml version="1.0"?><PubmedArticleSet><PubmedArticle><MedlineCitation><PMID>90000001'
        "</PMID><Article><Journal><JournalIssue><PubDate><Year>2020</Year></PubDate>"
        f"</JournalIssue></Journal><ArticleTitle>{TITLE}</ArticleTitle><Abstract><AbstractText>"
        f"{ABSTRACT}</AbstractText></Abstract><AuthorList><Author><LastName>Example</LastName>"
        "<ForeName>Anna</ForeName></Author></AuthorList></Article></MedlineCitation>"
        "</PubmedArticle></PubmedArticleSet>",
        PMID | {"authors": ["Example, Anna"]},
    ),
    "Zotero CSV": (
        "zotero.csv",
        "\ufeff"
        + table(
            "Key|Item Type|Publication Year|Author|Title|Publication Title|ISBN|ISSN|DOI|Url|"
            "Abstract Note|Date|Date Added|Pages|Issue|Volume|Journal Abbreviation|Short Title|"
            "Language|Extra|Notes|Manual Tags|Automatic Tags",
            **{"key": "AB12", "item_type": "journalArticle", "publication_year": "2020"},
            **{"title": TITLE, "abstract_note": ABSTRACT, "extra": "PMID: 90000001", "issue": "3"},
            **{"publication_title": "Journal of examples", "date": "2020-05"},
        ),
        PMID | {"journal": "Journal of examples"},
    ),
    "Zotero RIS": (
        "zotero.ris",
        f"TY  - JOUR\nTI  - {TITLE}\nAU  - Example, Anna\nT2  - Journal of examples\nAB  - "
        f"{ABSTRACT}\nDA  - 2020/05//\nPY  - 2020\nDO  - 10.1000/x\nDP  - PubMed\nVL  - 12\n"
        "AN  - 90000001\nKW  - Humans\nER  - \n\n",
        PMID,
    ),
    "Zotero CSL-JSON": (
        "zotero.json",
        json.dumps(
            [
                {
                    "id": "http://zotero.org/users/0/items/AB12",
                    "type": "article-journal",
                    "title": TITLE,
                    "abstract": ABSTRACT,
                    "container-title": "Journal of examples",
                    "author": [{"family": "Example", "given": "Anna"}],
                    "issued": {"date-parts": [["2020", 5]]},
                    "note": "PMID: 90000001",
                    "DOI": "10.1000/x",
                }
            ],
            indent=2,
        ),
        PMID | {"journal": "Journal of examples"},
    ),
    "EndNote RIS": (
        "endnote.ris",
        f"TY  - JOUR\nAU  - Example, A.\nAU  - Sample, B.\nPY  - 2020\nDA  - May\nTI  - {TITLE}\n"
        f"T2  - Journal of examples\nJ2  - J Ex\nSP  - 100-9\nVL  - 12\nIS  - 3\nKW  - Humans\n"
        f"Male\nFemale\n*Caries\nAB  - {ABSTRACT}\nSN  - 1111-1111\nAN  - 90000001\nDO  - 10.1/x\n"
        "DP  - NLM\nUR  - https://example.org/a;b\nID  - 17\nER  - \n\n",
        PMID | {"keywords": ["Humans", "Male", "Female", "*Caries"]},
    ),
    "EndNote XML": (
        "endnote.xml",
        '<?xml version="1.0" encoding="UTF-8" ?><xml><records><record><database>x</database>'
        '<ref-type name="Journal Article">17</ref-type><contributors><authors><author><style>'
        "Example, A.</style></author></authors></contributors><titles><title><style "
        f'face="normal">{TITLE[:10]}</style><style face="italic">{TITLE[10:]}</style></title>'
        "<secondary-title><style>Journal of examples</style></secondary-title></titles>"
        f"<keywords><keyword><style>Humans</style></keyword></keywords><dates><year><style>2020"
        f"</style></year></dates><accession-num><style>90000001</style></accession-num><abstract>"
        f"<style>{ABSTRACT}</style></abstract><remote-database-provider><style>NLM</style>"
        "</remote-database-provider></record></records></xml>",
        PMID | {"journal": "Journal of examples", "authors": ["Example, A."]},
    ),
    "EndNote tagged": (
        "endnote.enw",
        f"%0 Journal Article\n%T {TITLE}\n%A Example, A.\n%J Journal of examples\n%V 12\n%D 2020\n"
        f"%X {ABSTRACT}\n%K Humans\nMale\n%U https://pubmed.ncbi.nlm.nih.gov/90000001\n\n",
        PMID | {"keywords": ["Humans", "Male"]},
    ),
    "Mendeley": (
        "mendeley.bib",
        "@article{Example2020,\nabstract = {"
        + ABSTRACT
        + "},\nauthor = {Example, Anna and Sample, "
        "Bert},\ndoi = {10.1000/x},\nfile = {:C$\\backslash$:/x.pdf:pdf},\njournal = {Journal of "
        "examples},\nkeywords = {Humans,Male},\npmid = {90000001},\ntitle = {{" + TITLE + "}},\n"
        "url = {https://example.org/a\\_b},\nyear = {2020}\n}\n\n",
        PMID | {"authors": ["Example, Anna", "Sample, Bert"]},
    ),
    "JabRef": (
        "jabref.bib",
        "% Encoding: UTF-8\n\n@Article{Example2020,\n  author       = {Anna Example},\n  title"
        "  = {"
        + TITLE
        + "},\n  journaltitle = {Journal of examples},\n  date         = {2020-05},\n"
        "  abstract     = {" + ABSTRACT + "},\n  groups       = {x},\n}\n\n@Comment{jabref-meta: "
        "databaseType:biblatex;}\n",
        FULL | {"journal": "Journal of examples"},
    ),
    "Google Scholar": (
        "scholar.bib",
        "@article{example2020sealants,\n  title={" + TITLE + "},\n  author={Example, Anna},\n  "
        "journal={Journal of examples},\n  year={2020},\n  publisher={Nobody}\n}\n",
        {"title": TITLE, "year": 2020},
    ),
    "RefWorks RIS": (
        "refworks.ris",
        f"TY  - JOUR\nID  - 1\nA1  - Example,A.\nT1  - {TITLE}\nY1  - 2020/05//\nN2  - {ABSTRACT}\n"
        "JF  - Journal of examples\nJO  - J Ex\nU1  - 90000001[pmid]\nER  - \n\n",
        PMID | {"journal": "Journal of examples"},
    ),
    "RefWorks CSV": (
        "refworks.csv",
        table(
            "Reference Type|Authors, Primary|Title Primary|Periodical Full|Periodical Abbrev|"
            "Pub Year|Volume|Issue|Start Page|Abstract|Notes|DOI|Accession Number",
            **{"title_primary": TITLE, "abstract": ABSTRACT, "pub_year": "2020", "volume": "12"},
            **{"accession_number": "PMID: 90000001", "periodical_full": "Journal of examples"},
        ),
        PMID | {"journal": "Journal of examples"},
    ),
    "IEEE Xplore": (
        "export2020.csv",
        table(
            "Document Title|Authors|Author Affiliations|Publication Title|Date Added To Xplore|"
            "Publication Year|Volume|Issue|Start Page|End Page|Abstract|ISSN|ISBNs|DOI|PDF Link|"
            "Author Keywords|IEEE Terms|Document Identifier",
            **{"document_title": TITLE, "abstract": ABSTRACT, "publication_year": "2020"},
            **{"publication_title": "Journal of examples", "start_page": "1"},
        ),
        FULL | {"journal": "Journal of examples"},
    ),
    "SpringerLink": (
        "SearchResults.csv",
        table(
            "Item Title|Publication Title|Book Series Title|Journal Volume|Journal Issue|Item DOI|"
            "Authors|Publication Year|URL|Content Type",
            **{"item_title": TITLE, "publication_year": "2020", "content_type": "Article"},
            publication_title="Journal of examples",
        ),
        {"title": TITLE, "year": 2020, "journal": "Journal of examples"},
    ),
    "Scopus CSV": (
        "scopus.csv",
        "\ufeff"
        + table(
            "Authors|Author full names|Author(s) ID|Title|Year|Source title|Volume|Issue|Art. No.|"
            "Page start|Page end|Cited by|DOI|Link|Affiliations|Abstract|Author Keywords|"
            "Index Keywords|PubMed ID|Language of Original Document|Abbreviated Source Title|"
            "Document Type|Publication Stage|Open Access|Source|EID",
            **{"authors": "Example A.; Sample B.", "title": TITLE, "year": "2020", "source": "S"},
            **{
                "abstract": ABSTRACT,
                "pubmed_id": "90000001",
                "source_title": "Journal of examples",
            },
            **{"document_type": "Article", "eid": "2-s2.0-1", "index_keywords": "human; male"},
        ),
        PMID | {"journal": "Journal of examples", "pub_types": ["Article"]},
    ),
    "Scopus RIS": (
        "scopus.ris",
        f"TY  - JOUR\nAU  - Example, A.\nTI  - {TITLE}\nPY  - 2020\nT2  - Journal of examples\n"
        f"AB  - {ABSTRACT}\nKW  - Humans\nC2  - 90000001\nUR  - https://www.scopus.com/inward/r\n"
        "DB  - Scopus\nN1  - Export Date: 1 May 2021; Cited By: 3\nER  - \n\n",
        PMID,
    ),
    "Embase CSV": (
        "embase.csv",
        table(
            "Title|Author Names|Source title|Publication Year|Abstract|Medline PMID|Embase "
            "Accession ID|DOI|Publication Type|Emtree Drug Index Terms (Major Focus)",
            before='"Search: caries"\r\n"Exported: 1 May 2021"\r\n\r\n',
            **{"title": TITLE, "abstract": ABSTRACT, "publication_year": "2020"},
            **{"medline_pmid": "90000001", "publication_type": "Article", "doi": "10.1000/x"},
        ),
        PMID,
    ),
    "Embase RIS": (
        "embase.ris",
        f"TY  - JOUR\nM3  - Article\nY1  - 2020\nVL  - 12\nT1  - {TITLE}\nA1  - Example A.\nN2  - "
        f"{ABSTRACT}\nJF  - Journal of examples\nU2  - L2000000001\nC5  - 90000001\nDB  - Embase\n"
        "UR  - https://www.embase.com/search/results?id=L1&from=export\nER  - \n\n",
        PMID | {"pub_types": ["Article"]},
    ),
    "Cochrane Library": (
        "citation-export.ris",
        f"Record #1 of 1\nProvider: John Wiley & Sons, Ltd\nContent: text/plain\n\nTY  - JOUR\n"
        f"AN  - CN-00000001\nAU  - Example A\nTI  - {TITLE}\nM3  - Journal article\nJO  - Journal "
        f"of examples\nPY  - 2020\nAB  - {ABSTRACT}\nC3  - PUBMED 90000001,EMBASE 600000001\n"
        "ER  - \n\n",
        PMID,
    ),
    "Web of Science": (
        "savedrecs.ciw",
        f"\ufeffFN Clarivate Analytics Web of Science\nVR 1.0\nPT J\nAU Example, A\n   Sample, B\n"
        f"AF Example, Anna\n   Sample, Bert\nTI {wrapped(TITLE, 3)}\nSO JOURNAL "
        f"OF EXAMPLES\nLA English\nDT Article\nDE caries; sealants;\n   children\nAB {ABSTRACT}\n"
        "PY 2020\nVL 12\nUT WOS:000000000000001\nPM 90000001\nER\n\nEF",
        PMID
        | {
            "authors": ["Example, Anna", "Sample, Bert"],
            "keywords": ["caries", "sealants", "children"],
        },
    ),
    "Web of Science, tabs": (
        "savedrecs.txt",
        table(
            "PT|AU|BA|TI|SO|LA|DT|DE|AB|PY|VL|DI|PM|UT",
            delimiter="\t",
            **{"pt": "J", "ti": TITLE, "ab": ABSTRACT, "py": "2020", "pm": "90000001"},
            **{"so": "JOURNAL OF EXAMPLES", "dt": "Article", "au": "Example, A; Sample, B"},
        ).encode("utf-16"),
        PMID | {"journal": "JOURNAL OF EXAMPLES", "pub_types": ["Article"]},
    ),
    "Ovid": (
        "ovid.txt",
        f"<1>\nUnique Identifier\n  90000001\nTitle\n  {TITLE}\nSource\n  Journal of examples. "
        f"12(3):100-9, 2020 May.\nAuthors\n  Example A\n  Sample B\nDatabase\n  Ovid MEDLINE(R)\n"
        f"Abstract\n  {wrapped(ABSTRACT, 2)}\nPublication Type\n  Randomized "
        "Controlled Trial.\nYear of Publication\n  2020\n\n",
        PMID | {"authors": ["Example A", "Sample B"]},
    ),
    "PsycINFO (Ovid RIS)": (
        "psycinfo.ris",
        f"1. \nTY  - JOUR\nDB  - APA PsycInfo\nAN  - 2020-00000-001\nT1  - {TITLE}.\nY1  - 2020//\n"
        f"N2  - {ABSTRACT}\nKW  - *Caries\nKW  - Children\nJF  - Journal of examples\n"
        "PT  - Journal\nER  - \n\n",
        FULL | {"title": f"{TITLE}.", "pmid": None},
    ),
    "Rayyan": (
        "articles.csv",
        table(
            "key|title|year|month|day|journal|issn|volume|issue|pages|authors|url|language|"
            "publisher|location|abstract|notes|pubmed_id|pmc_id",
            **{"key": "rayyan-1", "title": TITLE, "year": "2020", "abstract": ABSTRACT},
            **{"pubmed_id": "90000001", "notes": 'RAYYAN-INCLUSION: {"A"=>"Included"}'},
        ),
        PMID,
    ),
    "Covidence": (
        "review_select.csv",
        table(
            "Title|Authors|Abstract|Published Year|Published Month|Journal|Volume|Issue|Pages|"
            "Accession Number|DOI|Ref|Covidence #|Study|Notes|Tags",
            **{"title": TITLE, "abstract": ABSTRACT, "published_year": "2020", "covidence": "#1"},
            **{"journal": "Journal of examples", "accession_number": "90000001", "pages": "1-2"},
        ),
        FULL | {"journal": "Journal of examples"},
    ),
    "ASReview": (
        "asreview_dataset.csv",
        table(
            "record_id|title|primary_title|abstract|notes_abstract|year|doi|asreview_label|"
            "asreview_time|asreview_note|included",
            **{"record_id": "0", "primary_title": TITLE, "notes_abstract": ABSTRACT},
            **{"year": "2020", "asreview_label": "1"},
        ),
        FULL,
    ),
    "DistillerSR": (
        "distiller.csv",
        table(
            "Refid|User|Level|Bibliography|Title|Abstract|Author|Journal|Year|Is it a trial?",
            **{"refid": "1", "title": TITLE, "abstract": ABSTRACT, "year": "2020 May"},
            **{"is_it_a_trial": "Yes", "bibliography": "Example A, 2020"},
        ),
        FULL,
    ),
    "EPPI-Reviewer": (
        "eppi.ris",
        f"TY  - JOUR\nT1  - {TITLE}\nA1  - Example Anna\nJF  - Journal of examples\nPY  - 2020\n"
        f"AB  - {ABSTRACT}\nU1  - 4000001\nU2  - 0\nER  - \n\n",
        FULL | {"pmid": None},
    ),
    "Papers": (
        "papers.ris",
        f"TY  - JOUR\nT1  - {TITLE}\nA1  - Example, Anna\nJF  - Journal of examples\nY1  - 2020/05/"
        f"12/\nN2  - {ABSTRACT}\nUR  - https://pubmed.ncbi.nlm.nih.gov/90000001\nL1  - file://x\n"
        "ER  -\n",
        PMID,
    ),
    "CINAHL (EBSCO)": (
        "ebsco.ris",
        f"TY  - JOUR\nID  - 100000001\nT1  - {TITLE}\nAU  - Example, Anna\nJO  - Journal of "
        f"examples\nPY  - 2020/05//\nN2  - {ABSTRACT}\nAN  - 10000001. Language: English. "
        "Entry Date: 2020\nDB  - ccm\nDP  - EBSCOhost\nER  - \n\n",
        FULL | {"pmid": None},
    ),
    "EBSCO CSV": (
        "delivery.csv",
        table(
            "Article Title|Author|Journal Title|ISSN|ISBN|Publication Date|Volume|Issue|First Page|"
            "Page Count|Accession Number|DOI|Publisher|Doctype|Subjects|Keywords|Abstract|PLink",
            **{"article_title": TITLE, "abstract": ABSTRACT, "publication_date": "20200501"},
            **{"accession_number": "10000001", "journal_title": "Journal of examples"},
        ),
        FULL | {"journal": "Journal of examples"},
    ),
    "ProQuest": (
        "proquest.ris",
        f"TY  - JOUR\nT1  - {TITLE}\nAU  - Example, Anna\nY1  - 2020/05/12/\nPY  - 2020\nJF  - "
        f"Journal of examples\nAB  - {ABSTRACT}\nM3  - 10000001\nAN  - 10000001; 90000\nPB  - x\n"
        "ER  - \n\n",
        FULL | {"pmid": None},
    ),
    "LILACS": (
        "lilacs.csv",
        "\ufeff"
        + table(
            "ID|Title|Authors|Source|Journal|Database|Type|Language|Publication year|Descriptor(s)|"
            "Publication Country|Fulltext URL|Abstract|Entry Date|Volume number|Issue number|DOI|"
            "ISSN|Accession number",
            **{"id": "biblio-1", "title": TITLE, "abstract": ABSTRACT, "publication_year": "2020"},
            **{"database": "LILACS", "descriptor_s": "Humans; Caries", "type": "article"},
        ),
        FULL | {"mesh_terms": ["Humans", "Caries"]},
    ),
    "Publish or Perish": (
        "PoPCites.csv",
        "\ufeff"
        + table(
            "Cites|Authors|Title|Year|Source|Publisher|ArticleURL|CitesURL|GSRank|QueryDate|Type|"
            "DOI|ISSN|Abstract|FullTextURL",
            **{"title": TITLE, "year": "2020", "abstract": ABSTRACT, "cites": "3"},
        ),
        FULL,
    ),
    "Dimensions": (
        "dimensions.csv",
        table(
            "Rank|Publication ID|DOI|PMID|PMCID|Title|Abstract|Source title|Publisher|PubYear|"
            "Volume|Issue|Authors|Publication Type",
            before='"About the data: Exported on May 01, 2021. Criteria: sealants."\r\n',
            **{"title": TITLE, "abstract": ABSTRACT, "pubyear": "2020", "pmid": "90000001"},
            publication_type="article",
        ),
        PMID,
    ),
    "Lens.org": (
        "lens-export.csv",
        "\ufeff"
        + table(
            "Lens ID|Title|Date Published|Publication Year|Publication Type|Source Title|ISSNs|"
            "Publisher|Abstract|Volume|Issue Number|DOI|PMID|PMCID|MeSH Terms|Keywords",
            **{"title": TITLE, "abstract": ABSTRACT, "publication_year": "2020"},
            **{
                "pmid": "90000001",
                "mesh_terms": "Humans; Male",
                "publication_type": "journal article",
            },
        ),
        PMID | {"mesh_terms": ["Humans", "Male"]},
    ),
    "OpenAlex": (
        "works.json",
        json.dumps(
            {
                "meta": {"count": 1},
                "results": [
                    {
                        "id": "https://openalex.org/W1",
                        "display_name": TITLE,
                        "publication_year": 2020,
                        "ids": {"pmid": "https://pubmed.ncbi.nlm.nih.gov/90000001"},
                        "abstract_inverted_index": {
                            word: [n for n, other in enumerate(ABSTRACT.split()) if other == word]
                            for word in ABSTRACT.split()
                        },
                    }
                ],
            },
            indent=1,
        ),
        PMID,
    ),
    "Europe PMC": (
        "europepmc.json",
        json.dumps(
            {
                "resultList": {
                    "result": [
                        {
                            "id": "90000001",
                            "pmid": "90000001",
                            "title": f"<i>{TITLE}</i>",
                            "pubYear": "2020",
                            "abstractText": f"<h4>Background</h4>{ABSTRACT}",
                            "journalTitle": "Journal of examples",
                        }
                    ]
                }
            },
            indent=1,
        ),
        PMID | {"abstract": f"Background {ABSTRACT}", "journal": "Journal of examples"},
    ),
    "Semantic Scholar": (
        "papers.jsonl",
        json.dumps(
            {
                "paperId": "0a",
                "externalIds": {"DOI": "10.1000/x", "PubMed": "90000001"},
                "title": TITLE,
                "abstract": ABSTRACT,
                "year": 2020,
                "venue": "Journal of examples",
                "publicationTypes": ["Review"],
                "authors": [{"authorId": "1", "name": "Anna Example"}],
            }
        )
        + "\n",
        PMID | {"pub_types": ["Review"], "journal": "Journal of examples"},
    ),
    "ClinicalTrials.gov": (
        "ctg-studies.csv",
        table(
            "NCT Number|Study Title|Study URL|Study Status|Brief Summary|Conditions|Start Date",
            **{"nct_number": "NCT00000000", "study_title": TITLE, "brief_summary": ABSTRACT},
        ),
        {"title": TITLE, "abstract": ABSTRACT},
    ),
    "TRID": (
        "trid.ris",
        f"TY  - JOUR\nAN  - 01700001\nTI  - {TITLE}\nAU  - Example, Anna\nPY  - 2020\nAB  - "
        f"{ABSTRACT}\nKW  - Children\nER  - \n\n",
        FULL | {"pmid": None},
    ),
}


def save(folder: Path, tool: str) -> Path:
    name, content, _ = EXPORTS[tool]
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("tool", EXPORTS)
def test_exports_are_read(tmp_path, tool, caplog):
    (row,) = read_rows(save(tmp_path, tool), refuse_ignored_text=True)
    expected = EXPORTS[tool][2]
    assert {name: row.get(name) for name in expected} == expected
    assert not [record for record in caplog.records if "no row has" in record.message]


WRITTEN_BACK = (".ris", ".nbib", ".enw", ".bib", ".csv", ".jsonl")


@pytest.mark.parametrize("tool", EXPORTS)
def test_exports_come_back_with_every_field(tmp_path, tool):
    source = save(tmp_path, tool)
    suffix = source.suffix if source.suffix in WRITTEN_BACK else ".ris"
    target = tmp_path / f"tagged{suffix}"
    with open_writer(target) as writer:
        for row in read_rows(source):
            writer.write(tagged(row, TAGS))
    (back,) = read_rows(target)
    expected = EXPORTS[tool][2]
    found = {name: back.get(name) for name in expected}
    found["keywords"] = [word for word in found.get("keywords") or () if "studytag" not in word]
    assert found == {"keywords": []} | expected
    tags = [*(back.get("keywords") or ()), *(back.get("studytag_labels") or ())]
    assert {"studytag: RCT", "RCT"} & set(tags)
    content = source.read_text("utf-16" if tool == "Web of Science, tabs" else "utf-8-sig")
    if suffix == source.suffix:
        lost = Counter(words(content)) - Counter(words(target.read_text("utf-8-sig")))
        lost -= Counter(words(BEFORE.get(tool, "")))
        assert not lost
    elif source.suffix in (".ciw", ".txt"):
        lost = set(words(content)) - set(words(target.read_text()))
        assert not {word for word in lost if len(word) > 4} - set(words(MARKS))


BEFORE = {
    "Embase CSV": "Search: caries Exported: 1 May 2021",
    "Dimensions": "About the data: Exported on May 01, 2021. Criteria: sealants.",
    "Cochrane Library": "Record #1 of 1 Provider: John Wiley & Sons, Ltd Content: text/plain",
    "PsycINFO (Ovid RIS)": "1.",
}
"""What stands before the header or the record is no field."""

MARKS = "Clarivate Analytics Science Title Abstract Authors Identifier Unique Database Publication"
"""What are names of fields in these formats."""


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text)


ODD = [b"\n", b"\r", b'"', b";", b"\t", b"{", b"}", b"@", b"\xff", b"\0", b"<", b"ER", b"ER  - \n"]
ODD += [
    b"TY  - ",
    b"PMID- ",
    b"%0 ",
    b"</record>",
    b"[",
    b"\\",
    b"#",
    b"=",
    b"<1>\n",
    b"\xef\xbb\xbf",
]


@pytest.mark.parametrize("seed", range(4))
def test_damaged_exports_are_read_or_refused_in_one_line(tmp_path, seed):
    random, refused = Random(seed), []
    for tool in EXPORTS:
        path = save(tmp_path, tool)
        content = bytearray(path.read_bytes())
        for _ in range(3):
            place = random.randrange(len(content) + 1)
            if random.random() < 0.6:
                content[place:place] = random.choice(ODD)
            else:
                del content[place : place + random.choice([1, 10, 100])]
        path.write_bytes(content)
        try:
            rows = list(read_rows(path))
        except InputError as refusal:
            refused.append(str(refusal))
            continue
        with open_writer(tmp_path / "again.ris") as writer:
            for row in rows:
                writer.write(row)
        if rows:
            back = read_rows(tmp_path / "again.ris")
            assert [clean(row["title"]) for row in back] == [
                clean(row.get("title")) for row in rows
            ]
    assert all("\n" not in message for message in refused)


def test_every_tool_has_a_row_in_the_documentation():
    documented = (Path(__file__).parent.parent / "docs" / "formats.md").read_text("utf-8")
    for tool in EXPORTS:
        assert f"| {tool} |" in documented, tool
    assert len(EXPORTS) >= 25
