"""Reading PubMed XML. All records are made up."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from pathlib import Path

import pytest

from studytag.errors import InputError
from studytag.files import open_writer, read_rows
from studytag.records import clean

HEAD = (
    '<?xml version="1.0" encoding="utf-8"?>\n'
    '<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle, 1st January 2025//EN" '
    '"https://dtd.invalid/pubmed_250101.dtd">\n'
)

ARTICLE = """<PubmedArticle><MedlineCitation Status="MEDLINE">
<PMID Version="1">90000001</PMID>
<Article PubModel="Print"><Journal><JournalIssue><PubDate>{date}</PubDate></JournalIssue>
<Title>Journal of examples</Title><ISOAbbreviation>J Ex</ISOAbbreviation></Journal>
<ArticleTitle>Effects of H<sub>2</sub>O on <i>Fictitia
 exemplaris</i> &lt;in vitro&gt;<!-- remark -->.</ArticleTitle>
<Abstract><AbstractText Label="AIM" NlmCategory="OBJECTIVE">To <b>test</b> 10<sup>3</sup>
 cells.</AbstractText><AbstractText>&#945; was low.</AbstractText><AbstractText Label="X"/>
<CopyrightInformation>Nobody, 2020.</CopyrightInformation></Abstract>
<Language>eng</Language><Language>ger</Language>
<PublicationTypeList><PublicationType UI="D1">Journal Article</PublicationType>
<PublicationType UI="D2">Comparative Study</PublicationType></PublicationTypeList>
{electronic}</Article>
<MedlineJournalInfo><MedlineTA>J Ex TA</MedlineTA></MedlineJournalInfo>
<MeshHeadingList><MeshHeading><DescriptorName MajorTopicYN="N">Cells, Cultured</DescriptorName>
<QualifierName>drug effects</QualifierName></MeshHeading>
<MeshHeading><DescriptorName>Humans</DescriptorName></MeshHeading></MeshHeadingList>
<OtherAbstract Type="plain"><AbstractText>In plain words.</AbstractText></OtherAbstract>
<CommentsCorrectionsList><CommentsCorrections><PMID>90000009</PMID></CommentsCorrections>
</CommentsCorrectionsList></MedlineCitation>
<PubmedData><History><PubMedPubDate PubStatus="received"><Year>2010</Year></PubMedPubDate>
<PubMedPubDate PubStatus="pubmed"><Year>2012</Year></PubMedPubDate></History>
<ReferenceList><Reference><ArticleIdList><ArticleId IdType="pubmed">90000008</ArticleId>
</ArticleIdList></Reference></ReferenceList></PubmedData></PubmedArticle>
"""

BOOK = """<PubmedBookArticle><BookDocument><PMID>90000002</PMID>
<Book><BookTitle>A book of examples</BookTitle><PubDate><Year>2015</Year></PubDate></Book>
<ArticleTitle></ArticleTitle><Language>eng</Language>
<PublicationType>Review</PublicationType>
<Abstract><AbstractText>Chapter.</AbstractText></Abstract></BookDocument></PubmedBookArticle>
"""


FULL = """<PubmedArticle><MedlineCitation Status="MEDLINE"><PMID>90000010</PMID>
<DateCompleted><Year>2020</Year><Month>3</Month><Day>04</Day></DateCompleted>
<DateRevised><Year>2021</Year><Month>11</Month><Day>30</Day></DateRevised>
<Article><Journal><ISSN IssnType="Print">1111-1111</ISSN><JournalIssue><Volume>12</Volume>
<Issue>3</Issue><PubDate><Year>2020</Year><Month>May</Month></PubDate></JournalIssue>
<Title>Journal of examples</Title><ISOAbbreviation>J Ex</ISOAbbreviation></Journal>
<ArticleTitle>A trial.</ArticleTitle><Pagination><StartPage>100</StartPage><EndPage>109</EndPage>
</Pagination><ELocationID EIdType="doi">10.1000/one</ELocationID>
<Abstract><AbstractText>We randomised.</AbstractText>
<CopyrightInformation>Nobody, 2020.</CopyrightInformation></Abstract>
<AuthorList><Author><LastName>Example</LastName><ForeName>Anna B</ForeName><Initials>AB</Initials>
<Suffix>Jr</Suffix><Identifier Source="ORCID">0000-0000-0000-0001</Identifier><AffiliationInfo>
<Affiliation>Here; there</Affiliation></AffiliationInfo></Author>
<Author><LastName>Sample</LastName><Initials>C</Initials></Author>
<Author><CollectiveName>Fiction Group</CollectiveName></Author></AuthorList>
<Language>eng</Language><Language>ger</Language>
<DataBankList><DataBank><DataBankName>ClinicalTrials.gov</DataBankName><AccessionNumberList>
<AccessionNumber>NCT00000001</AccessionNumber><AccessionNumber>NCT00000002</AccessionNumber>
</AccessionNumberList></DataBank><DataBank><DataBankName>GDB</DataBankName></DataBank>
</DataBankList><GrantList><Grant><GrantID>R01 XX000001</GrantID><Acronym>XX</Acronym>
<Agency>NIXX NIH HHS</Agency><Country>United States</Country></Grant></GrantList>
<PublicationTypeList><PublicationType>Journal Article</PublicationType></PublicationTypeList>
<VernacularTitle>Ein Versuch.</VernacularTitle>
<ArticleDate><Year>2020</Year><Month>01</Month><Day>02</Day></ArticleDate></Article>
<MedlineJournalInfo><Country>Nowhere</Country><MedlineTA>J Ex</MedlineTA>
<NlmUniqueID>9999999</NlmUniqueID><ISSNLinking>2222-2222</ISSNLinking></MedlineJournalInfo>
<ChemicalList><Chemical><RegistryNumber>059QF0KO0R</RegistryNumber>
<NameOfSubstance>Water</NameOfSubstance></Chemical></ChemicalList>
<SupplMeshList><SupplMeshName>Fever, invented</SupplMeshName></SupplMeshList>
<CitationSubset>IM</CitationSubset><CommentsCorrectionsList>
<CommentsCorrections RefType="RetractionIn"><RefSource>J Ex. 2021;1:2</RefSource>
<PMID>90000009</PMID></CommentsCorrections>
<CommentsCorrections RefType="CorrectedandRepublishedFrom"><RefSource>J Ex. 2019;1:1</RefSource>
<Note>see there</Note></CommentsCorrections></CommentsCorrectionsList>
<GeneSymbolList><GeneSymbol>xyz1</GeneSymbol></GeneSymbolList>
<MeshHeadingList><MeshHeading><DescriptorName MajorTopicYN="N">Caries</DescriptorName>
<QualifierName MajorTopicYN="Y">therapy</QualifierName><QualifierName>blood</QualifierName>
</MeshHeading><MeshHeading><DescriptorName MajorTopicYN="Y">Humans</DescriptorName></MeshHeading>
</MeshHeadingList><NumberOfReferences>17</NumberOfReferences>
<PersonalNameSubjectList><PersonalNameSubject><LastName>Subject</LastName>
<ForeName>Sue</ForeName></PersonalNameSubject></PersonalNameSubjectList>
<OtherID Source="NASA">00027</OtherID>
<OtherAbstract Type="Publisher" Language="ger"><AbstractText Label="ZIEL">Wozu.</AbstractText>
<CopyrightInformation>Niemand.</CopyrightInformation></OtherAbstract>
<KeywordList><Keyword>caries</Keyword></KeywordList>
<CoiStatement>None declared.</CoiStatement><SpaceFlightMission>Flight 1</SpaceFlightMission>
<InvestigatorList><Investigator><LastName>Seeker</LastName><ForeName>Ida</ForeName>
<AffiliationInfo><Affiliation>Elsewhere</Affiliation></AffiliationInfo></Investigator>
</InvestigatorList><GeneralNote>Of note</GeneralNote></MedlineCitation>
<PubmedData><History><PubMedPubDate PubStatus="received"><Year>2019</Year><Month>7</Month>
<Day>08</Day><Hour>6</Hour><Minute>5</Minute></PubMedPubDate></History>
<PublicationStatus>ppublish</PublicationStatus><ArticleIdList>
<ArticleId IdType="pubmed">90000010</ArticleId><ArticleId IdType="pii">S1</ArticleId>
<ArticleId IdType="doi">10.1000/one</ArticleId><ArticleId IdType="pmc">PMC1</ArticleId>
</ArticleIdList></PubmedData></PubmedArticle>
"""

MEDLINE = """PMID- 90000010
DCOM- 20200304
LR  - 20211130
IS  - 1111-1111
IS  - 2222-2222
VI  - 12
IP  - 3
DP  - 2020 May
TI  - A trial.
PG  - 100-109
LID - 10.1000/one [doi]
AB  - We randomised.
CI  - Nobody, 2020.
CI  - Niemand.
FAU - Example, Anna B Jr
FAU - Sample, C
FAU - Fiction Group
AUID- ORCID: 0000-0000-0000-0001
AD  - Here; there
LA  - eng
LA  - ger
SI  - ClinicalTrials.gov/NCT00000001
SI  - ClinicalTrials.gov/NCT00000002
SI  - GDB
GR  - R01 XX000001/XX/NIXX NIH HHS/United States
PT  - Journal Article
TT  - Ein Versuch.
DEP - 20200102
PL  - Nowhere
TA  - J Ex
JT  - Journal of examples
JID - 9999999
RN  - 059QF0KO0R (Water)
NM  - Fever, invented
SB  - IM
RIN - J Ex. 2021;1:2 PMID: 90000009
CRF - J Ex. 2019;1:1 see there
GS  - xyz1
MH  - Caries/*therapy/blood
MH  - *Humans
RF  - 17
FPS - Subject, Sue
OID - NASA: 00027
OAB - Publisher: ZIEL: Wozu.
OABL- ger
OT  - caries
COIS- None declared.
SFM - Flight 1
FIR - Seeker, Ida
IRAD- Elsewhere
GN  - Of note
PHST- 2019/07/08 06:05 [received]
PST - ppublish
PMC - PMC1
AID - S1 [pii]
"""

CHAPTER = """<PubmedBookArticle><BookDocument><PMID>90000011</PMID>
<ArticleIdList><ArticleId IdType="bookaccession">NBK1</ArticleId></ArticleIdList><Book><Publisher>
<PublisherName>Nowhere Press</PublisherName><PublisherLocation>Nowhere</PublisherLocation>
</Publisher><BookTitle>A book of examples</BookTitle><PubDate><Year>2015</Year></PubDate>
<AuthorList Type="editors"><Author><LastName>Editor</LastName><ForeName>Ed</ForeName></Author>
</AuthorList><AuthorList Type="authors"><Author><LastName>Booker</LastName><ForeName>Bo</ForeName>
</Author></AuthorList><Volume>2</Volume><VolumeTitle>Second part</VolumeTitle><Edition>3rd</Edition>
<CollectionTitle>A series</CollectionTitle><Isbn>9780000000001</Isbn></Book>
<ArticleTitle>A chapter.</ArticleTitle><Language>eng</Language>
<AuthorList Type="authors"><Author><LastName>Writer</LastName><ForeName>Wu</ForeName></Author>
</AuthorList><PublicationType>Review</PublicationType><ContributionDate><Year>2014</Year>
<Month>02</Month><Day>03</Day></ContributionDate></BookDocument></PubmedBookArticle>
"""


def article(date="<Year>2020</Year>", electronic=""):
    return ARTICLE.format(date=date, electronic=electronic)


def save(path: Path, body: str, head: str = HEAD) -> Path:
    content = f"{head}<PubmedArticleSet>\n{body}</PubmedArticleSet>".encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write(source: Path, target: Path) -> None:
    with open_writer(target) as writer:
        for row in read_rows(source):
            writer.write(row)


@pytest.mark.parametrize("name", ["a.xml", "a.xml.gz"])
def test_every_column_comes_from_its_own_element(tmp_path, name):
    deleted = "<DeleteCitation><PMID>90000007</PMID></DeleteCitation>"
    first, second = (
        {column: value for column, value in row.items() if value}
        for row in read_rows(save(tmp_path / name, article() + BOOK + deleted))
    )
    assert first == {
        "pmid": "90000001",
        "title": "Effects of H2O on Fictitia exemplaris <in vitro>.",
        "abstract": "AIM: To test 103 cells. α was low.",
        "year": 2020,
        "journal": "Journal of examples",
        "pub_types": ["Journal Article", "Comparative Study"],
        "mesh_terms": ["Cells, Cultured", "Humans"],
        "mesh_indexing": ["Cells, Cultured/drug effects", "Humans"],
        "language": "eng; ger",
        "date": "2020",
        "journal_abbreviation": "J Ex",
        "copyright_information": ["Nobody, 2020."],
        "comments_corrections": ["PMID: 90000009"],
        "other_abstracts": ["plain: In plain words."],
        "other_abstract_languages": ["eng"],
        "publication_history": ["2010 00:00 [received]", "2012 00:00 [pubmed]"],
    }
    assert second == {
        "pmid": "90000002",
        "title": "A book of examples",
        "abstract": "Chapter.",
        "year": 2015,
        "pub_types": ["Review"],
        "language": "eng",
        "date": "2015",
    }


def test_a_record_becomes_the_lines_of_pubmed_itself(tmp_path, caplog):
    path = save(tmp_path / "a.xml", FULL)
    [row] = read_rows(path)
    assert "is not read" not in caplog.text
    assert row["mesh_terms"] == ["Caries", "Humans"]
    assert row["comments_corrections"] == [
        "Retraction in: J Ex. 2021;1:2 PMID: 90000009",
        "Corrected and republished from: J Ex. 2019;1:1 see there",
    ]
    write(path, tmp_path / "a.nbib")
    lines = (tmp_path / "a.nbib").read_text().splitlines()
    assert sorted(filter(None, lines)) == sorted(MEDLINE.splitlines())
    # By way of formats that have no place for most of it, too; pages are in two tags in RIS.
    for name in ("a.ris", "a.enw", "a.bib", "a.jsonl", "a.csv", "a.parquet", "a.xlsx"):
        write(path, tmp_path / name)
        write(tmp_path / name, tmp_path / "b.nbib")
        lost = set(MEDLINE.splitlines()) - set((tmp_path / "b.nbib").read_text().splitlines())
        assert lost == ({"PG  - 100-109"} if name == "a.ris" else set()), name


def test_a_chapter_keeps_what_is_said_of_its_book(tmp_path):
    path = save(tmp_path / "a.xml", CHAPTER)
    expected = {
        "a.nbib": "BTI - A book of examples|PB  - Nowhere Press|PL  - Nowhere|FED - Editor, Ed|"
        "ISBN- 9780000000001|EN  - 3rd|CTI - A series|VTI - Second part|FAU - Writer, Wu|"
        "CTDT- 20140203|AID - NBK1 [bookaccession]",
        "a.ris": "BT  - A book of examples|PB  - Nowhere Press|CY  - Nowhere|A2  - Editor, Ed|"
        "ET  - 3rd|AU  - Writer, Wu",
        "a.enw": "%B A book of examples|%I Nowhere Press|%C Nowhere|%E Editor, Ed|%7 3rd",
        "a.bib": "  booktitle = {A book of examples},|  publisher = {Nowhere Press},|"
        "  editor = {Editor, Ed},|  isbn = {9780000000001},|  edition = {3rd},",
    }
    for name, lines in expected.items():
        write(path, tmp_path / name)
        written = (tmp_path / name).read_text()
        assert not set(lines.split("|")) - set(written.splitlines()), name
        assert "Booker, Bo" in written


@pytest.mark.parametrize("record", [FULL, CHAPTER, article(), BOOK])
def test_every_text_is_in_a_column_or_its_element_is_named_once(tmp_path, record, caplog):
    """Also of elements that no one knows yet, wherever they stand."""
    import lxml.etree

    tree = lxml.etree.fromstring(record)
    for group in [
        element for element in tree.iter("*") if len(element) and not clean(element.text)
    ]:
        lxml.etree.SubElement(group, f"New{group.tag}").text = f"what is new in {group.tag}"
    path = save(tmp_path / "a.xml", lxml.etree.tostring(tree, encoding="unicode") * 2)
    said = str(list(read_rows(path)))
    named = re.findall(r"<(\w+)> is not read", caplog.text)
    assert len(named) == len(set(named))
    for element in tree.iter("*"):
        text = clean(element.text)
        tags = {element.tag, *(above.tag for above in element.iterancestors())}
        assert text in said or tags & {"Initials", "MedlineTA", *named}, element.tag
    assert not named or all(tag.startswith(("New", "ReferenceList")) for tag in named)


@pytest.mark.parametrize(
    ("date", "electronic", "year"),
    [
        ("<Year>2019</Year><Month>Dec</Month>", "", 2019),
        ("<MedlineDate>1998 Dec-1999 Jan</MedlineDate>", "", 1998),
        ("<MedlineDate>Winter 2003</MedlineDate>", "", 2003),
        ("<MedlineDate>Winter</MedlineDate>", "<ArticleDate><Year>2011</Year></ArticleDate>", 2011),
        ("", "", 2012),
    ],
)
def test_the_year_is_found_wherever_it_stands(tmp_path, date, electronic, year):
    [row] = read_rows(save(tmp_path / "a.xml", article(date, electronic)))
    assert row["year"] == year


def test_a_missing_title_falls_back_on_the_vernacular_one(tmp_path):
    body = (
        "<PubmedArticle><MedlineCitation><PMID>90000003</PMID><Article>"
        "<ArticleTitle>[Not Available].</ArticleTitle>"
        "<VernacularTitle>Ein <i>Titel</i></VernacularTitle></Article>"
        "<MedlineJournalInfo><MedlineTA>J Ex</MedlineTA></MedlineJournalInfo>"
        "</MedlineCitation></PubmedArticle>"
    )
    [row] = read_rows(save(tmp_path / "a.xml", body))
    assert (row["title"], row["abstract"], row["year"]) == ("Ein Titel", None, None)
    assert (row["journal"], row["pub_types"], row["language"]) == ("J Ex", [], None)


def test_deletions_are_no_articles_but_can_be_asked_for(tmp_path):
    body = "<DeleteCitation><PMID>90000007</PMID><PMID>90000008</PMID></DeleteCitation>"
    path = save(tmp_path / "a.xml", body)
    assert list(read_rows(path)) == []
    rows = list(read_rows(path, errors="return"))
    assert [(row["pmid"], row.reason) for row in rows] == [
        ("90000007", "deleted from PubMed"),
        ("90000008", "deleted from PubMed"),
    ]
    (article_row,) = read_rows(save(tmp_path / "b.xml", article()))
    assert rows[0].keys() == article_row.keys()


def test_entities_are_neither_read_from_files_nor_expanded(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("classified")
    head = (
        f'<!DOCTYPE PubmedArticleSet [<!ENTITY file SYSTEM "{secret.as_uri()}">'
        '<!ENTITY web SYSTEM "http://entity.invalid/x"><!ENTITY many "ha">]>'
    )
    body = (
        "<PubmedArticle><MedlineCitation><Article>"
        "<ArticleTitle>a&file;b&web;c&many;d</ArticleTitle>"
        "</Article></MedlineCitation></PubmedArticle>"
    )
    [row] = read_rows(save(tmp_path / "a.xml", body, head))
    assert row["title"] == "a&file;b&web;c&many;d"


@pytest.mark.parametrize("place", ["<ArticleTitle>&l9;</ArticleTitle>", '<Language x="&l9;"/>'])
def test_an_entity_bomb_does_not_go_off(tmp_path, place):
    bomb = '<!ENTITY l0 "ha">' + "".join(
        f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10)
    )
    body = f"<PubmedArticle><MedlineCitation><Article>{place}</Article></MedlineCitation>"
    path = save(
        tmp_path / "a.xml", body + "</PubmedArticle>", f"<!DOCTYPE PubmedArticleSet [{bomb}]>"
    )
    # Parsers differ: some refuse such a file, others leave the entity's name in the text.
    try:
        outcome = [row["title"] for row in read_rows(path)]
    except InputError as error:
        outcome = str(error)
    assert outcome in ([None], ["&l9;"]) or "broken XML after 0 records" in outcome


def test_a_broken_file_tells_where_and_after_how_many_records(tmp_path):
    path = save(tmp_path / "a.xml", article() * 2 + "<PubmedArticle><PMID>3</PubmedArticle>")
    line = path.read_text().count("\n") + 1
    rows = read_rows(path)
    assert [next(rows)["pmid"], next(rows)["pmid"]] == ["90000001"] * 2
    with pytest.raises(InputError) as caught:
        next(rows)
    assert str(caught.value).startswith(f"{path}: line {line}: broken XML after 2 records (")
    assert str(caught.value).endswith("; download the file again")
    assert "\n" not in str(caught.value)


def test_a_file_cut_off_is_reported(tmp_path):
    whole = save(tmp_path / "a.xml", article() * 300).read_bytes()
    (tmp_path / "a.xml").write_bytes(whole[:-60_000])
    with pytest.raises(InputError, match=r"a\.xml: line \d+: broken XML after 2\d\d records"):
        list(read_rows(tmp_path / "a.xml"))
    packed = gzip.compress(whole, compresslevel=0)
    (tmp_path / "b.xml.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InputError) as caught:
        list(read_rows(tmp_path / "b.xml.gz"))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'b.xml.gz'}: gzip stream is cut off or damaged after ")
    assert message.endswith(" records; download the file again")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "<html><body>Error</body></html>",
            "a <html> document, not PubMed's <PubmedArticleSet>; "
            "export the records from PubMed as XML",
        ),
        ("no XML", "line 1: broken XML after 0 records"),
    ],
)
def test_other_documents_are_refused(tmp_path, text, message):
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        list(read_rows(path))
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_a_baseline_file_needs_no_more_memory_than_a_small_one(tmp_path):
    """Kept, the 10,000 records would take more than 70 MB of the parser's own memory."""
    path = tmp_path / "a.xml.gz"
    record = article().replace("was low", "was low " * 80).encode()
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(f"{HEAD}<PubmedArticleSet>".encode())
        for _ in range(10):
            stream.write(record * 1000)
        stream.write(b"</PubmedArticleSet>")
    code = (
        "import sys; from studytag.files import read_rows\n"
        "def peak(): return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
        "rows = read_rows(sys.argv[1]); next(rows); early = peak()\n"
        "print(1 + sum(1 for _ in rows), peak() - early)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    count, kilobytes = map(int, done.stdout.split())
    assert count == 10_000
    assert kilobytes < 10_000
