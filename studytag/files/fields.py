"""What records say, and the names it has in each format and tool: one table for all of them.

Sources: the RIS specification and the field tables that Ovid, Embase, Scopus, Cochrane, EBSCO,
ProQuest and Web of Science publish; NLM's MEDLINE elements; EndNote's tags; BibTeX and BibLaTeX;
CSL 1.0.2, whose variables are columns; and the headers of the tables that the tools in
`docs/formats.md` export.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from studytag.files.notices import notice

FORMAT_TAGS = ("ris", "nbib", "enw", "ciw", "bib")


@dataclass(frozen=True)
class Field:
    """One thing that a record says. The first of several tags or columns is the one written.

    Attributes:
        name: Name of the column that rows have.
        many: Whether it is a list.
        ris: RIS tags.
        nbib: MEDLINE tags.
        enw: EndNote tags, without the percent sign.
        ciw: Web of Science tags.
        bib: BibTeX and BibLaTeX fields.
        columns: Names of columns of tables, as `column_key` makes them, between bars.
        derived: Columns from which it is only derived, so that they also stay as they are.
    """

    name: str
    many: bool = False
    ris: str = ""
    nbib: str = ""
    enw: str = ""
    ciw: str = ""
    bib: str = ""
    columns: str = ""
    derived: str = ""


FIELDS = (
    Field(
        "pmid",
        nbib="PMID",
        ciw="PM",
        bib="pmid pubmedid pubmed_id",
        columns="pmid|pubmed id|pubmedid|pubmed|pm|medline pmid|pubmed number|pubmed pmid|"
        "pubmed identifier|pubmed uid|pubmed id pmid|externalids pubmed|ids pmid|pubmed ids",
        derived="accession number|accession numbers|accession|an|extra|url|urls|link|links|"
        "custom 1|custom 2|custom 3|custom 5|c2|c3|c5|u1|user definable 1|l2|m2|notes|note|"
        "external ids|externalids|article url|id|ids",
    ),
    Field(
        "title",
        ris="TI T1 CT BT TT ST",
        nbib="TI BTI TT",
        enw="T Q !",
        ciw="TI",
        bib="title",
        columns="title|article title|titles|primary title|title primary|document title|item title|"
        "ti|t1|paper title|citation title|study title|reference title|record title|title english|"
        "english title|title en|articletitle|titulo|título|titre|titel|title original|"
        "original title|translated title|display name|article name|title of article|"
        "publication title original|title of paper|brief title|official title|title 1",
    ),
    Field(
        "abstract",
        ris="AB N2",
        nbib="AB OAB",
        enw="X",
        ciw="AB",
        bib="abstract",
        columns="abstract|abstract note|abstracts|notes abstract|abstract text|abstracttext|ab|n2|"
        "abstract english|english abstract|abstract en|abstract original|original abstract|"
        "article abstract|primary abstract|item abstract|abstract body|paper abstract|resumo|"
        "resumen|résumé|resume|zusammenfassung|author abstract|abstract inverted index|"
        "brief summary|summary",
    ),
    Field(
        "year",
        ris="PY Y1 YR",
        nbib="",
        enw="D",
        ciw="PY",
        bib="year",
        columns="year|publication year|published year|pub year|pubyear|py|year published|"
        "year of publication|publicationyear|published year s|year1|publication years|"
        "yr|año|ano|jahr|année|date year|article year|copyright year",
        derived="date|date published|publication date|pub date|publicationdate|y1|issued|"
        "cover date|published|published date|pubdate|publish date|coverdate|date of publication|"
        "first publication date|online date|create date|firstpublicationdate|dp",
    ),
    Field(
        "journal",
        ris="T2 JF JO SO",
        nbib="JT",
        enw="J B",
        ciw="SO",
        bib="journal journaltitle booktitle",
        columns="journal|journal title|journal book|source title|publication title|journal name|"
        "secondary title|jt|so|t2|jf|jo|periodical full|publication|periodical|"
        "container title|venue|publication name|source name|published in|periodical title|"
        "title secondary|pubtitle|journaltitle|host title|journal full title|full journal name|"
        "source title anthology title|journal conference title|revista|zeitschrift|source full",
    ),
    Field(
        "pub_types",
        many=True,
        ris="M3 PT",
        nbib="PT",
        enw="9",
        ciw="DT",
        columns="pub types|publication type|publication types|publicationtype|publicationtypes|"
        "article type|document type|document types|documenttype|pubtype|pub type|type of work|dt|"
        "record type|type of article|pubtypelist pubtype",
    ),
    Field(
        "mesh_terms",
        many=True,
        ris="MH",
        nbib="MH",
        ciw="MH",
        columns="mesh terms|mesh headings|mesh|mesh heading|mh|medical subject headings|"
        "mesh subject headings|mesh descriptors|descriptor s|descriptors mesh|meshterms",
    ),
    Field("labels", many=True, columns="labels"),
    Field("known", many=True, columns="known"),
    Field("split", columns="split"),
    Field(
        "type_of_reference",
        ris="TY",
        enw="0",
        columns="type of reference|item type|reference type|ref type|entry type|entrytype|itemtype|"
        "type",
    ),
    Field(
        "authors",
        many=True,
        ris="AU A1",
        nbib="FAU AU",
        enw="A",
        ciw="AF AU",
        bib="author",
        columns="authors|author|author full names|author s|au|a1|author names|authors primary|"
        "primary authors|first authors|all authors|author list|authorships|authorstring",
    ),
    Field(
        "editors",
        many=True,
        ris="A2 ED",
        nbib="FED ED",
        enw="E",
        ciw="BE",
        bib="editor",
        columns="editors|editor|a2|secondary authors|book editors",
    ),
    Field("tertiary_authors", many=True, ris="A3", enw="Y", columns="tertiary authors"),
    Field("subsidiary_authors", many=True, ris="A4", enw="?", columns="subsidiary authors"),
    Field(
        "keywords",
        many=True,
        ris="KW",
        nbib="OT",
        enw="K",
        ciw="DE",
        bib="keywords keyword",
        columns="keywords|keyword|author keywords|kw|de|author keyword|subject terms|descriptors|"
        "manual tags|tags|keywords author",
    ),
    Field(
        "doi",
        ris="DO",
        enw="R",
        ciw="DI",
        bib="doi",
        columns="doi|do|di|digital object identifier|article doi|item doi|doi number|doi link",
    ),
    Field("pmcid", nbib="PMC", bib="pmcid", columns="pmcid|pmc id|pmc|pmc number"),
    Field(
        "urls",
        many=True,
        ris="UR",
        enw="U",
        bib="url",
        columns="urls|url|ur|link|links|article url|full text url|fulltext url|pdf link|weblink",
    ),
    Field(
        "volume",
        ris="VL",
        nbib="VI",
        enw="V",
        ciw="VL",
        bib="volume",
        columns="volume|vl|vol|journal volume|volume number|vi",
    ),
    Field(
        "issue",
        ris="IS",
        nbib="IP",
        enw="N",
        ciw="IS",
        bib="number issue",
        columns="issue|number|issue number|journal issue|no|ip|is",
    ),
    Field(
        "pages",
        nbib="PG",
        enw="P",
        bib="pages",
        columns="pages|page|page range|pagination|pg|page numbers|page s",
    ),
    Field(
        "start_page",
        ris="SP",
        ciw="BP",
        columns="start page|page start|sp|bp|first page|pages start|begin page",
    ),
    Field("end_page", ris="EP", ciw="EP", columns="end page|page end|ep|last page|pages end"),
    Field("issn", ris="SN", nbib="IS", enw="@", ciw="SN", bib="issn", columns="issn|sn"),
    Field("isbn", nbib="ISBN", bib="isbn", columns="isbn|isbns"),
    Field(
        "publisher",
        ris="PB",
        nbib="PB",
        enw="I",
        ciw="PU",
        bib="publisher",
        columns="publisher|pb|pu|publisher name",
    ),
    Field(
        "place_published",
        ris="CY",
        nbib="PL",
        enw="C",
        ciw="PI",
        bib="address location",
        columns="place published|publisher place|place|city|publication country|"
        "country of publication",
    ),
    Field(
        "language",
        ris="LA",
        nbib="LA",
        enw="G",
        ciw="LA",
        bib="language langid",
        columns="language|la|languages|lang|language of original document|article language",
    ),
    Field("date", ris="DA", nbib="DP", enw="8", ciw="PD", bib="date", columns="date"),
    Field(
        "accession_number",
        ris="AN",
        enw="M",
        ciw="UT",
        columns="accession number|accession|an|ut|unique identifier|ui|unique wos id|"
        "ut unique wos id|eid",
    ),
    Field(
        "name_of_database",
        ris="DB",
        enw="~",
        columns="name of database|database|db",
    ),
    Field("database_provider", ris="DP", enw="W", columns="database provider|provider"),
    Field(
        "notes",
        many=True,
        ris="N1 RN",
        nbib="GN",
        enw="Z",
        bib="note annote annotation",
        columns="notes|note|research notes|n1",
    ),
    Field(
        "author_address",
        many=True,
        ris="AD",
        nbib="AD",
        enw="+",
        ciw="C1",
        columns="author address|affiliation|affiliations|authors with affiliations|"
        "author affiliations|addresses|institutions|ad",
    ),
    Field(
        "journal_abbreviation",
        ris="J2 JA J1",
        nbib="TA",
        ciw="J9 JI",
        bib="shortjournal",
        columns="journal abbreviation|abbreviated source title|iso abbreviation|periodical abbrev",
    ),
    Field("edition", ris="ET", nbib="EN", enw="7", bib="edition", columns="edition"),
    Field("call_number", ris="CN", enw="L", columns="call number"),
    Field("label", ris="LB", enw="F", columns="label"),
    Field("id", ris="ID", columns="id|reference id|refid|ref id|record id|study id|item id"),
    Field("access_date", ris="Y2", enw="[", bib="urldate", columns="access date|date accessed"),
    Field("section", ris="SE", enw="&", columns="section"),
    # What else PubMed says. A tag that a field above has too is read as that field.
    Field("mesh_indexing", many=True, nbib="MH"),
    Field("vernacular_title", nbib="TT"),
    Field("book_title", ris="BT", nbib="BTI", enw="B", bib="booktitle"),
    Field("collection_title", nbib="CTI"),
    Field("volume_title", nbib="VTI"),
    Field("other_abstracts", many=True, nbib="OAB"),
    Field("other_abstract_languages", many=True, nbib="OABL"),
    Field("copyright_information", many=True, nbib="CI OCI"),
    Field("author_ids", many=True, nbib="AUID"),
    Field("investigators", many=True, nbib="FIR IR"),
    Field("investigator_address", many=True, nbib="IRAD"),
    Field("personal_name_subjects", many=True, nbib="FPS PS"),
    Field("secondary_ids", many=True, nbib="SI"),
    Field("grants", many=True, nbib="GR"),
    Field("chemicals", many=True, nbib="RN"),
    Field("supplementary_concepts", many=True, nbib="NM"),
    Field("gene_symbols", many=True, nbib="GS"),
    Field("comments_corrections", many=True),  # written by CORRECTION_TAGS
    Field("space_flight_missions", many=True, nbib="SFM"),
    Field("citation_subsets", many=True, nbib="SB"),
    Field("other_ids", many=True, nbib="OID"),
    Field("article_ids", many=True, nbib="AID"),
    Field("publication_history", many=True, nbib="PHST"),
    Field("publication_status", nbib="PST"),
    Field("conflict_of_interest", nbib="COIS"),
    Field("number_of_references", nbib="RF"),
    Field("issn_linking", nbib="IS"),
    Field("journal_id", nbib="JID"),
    Field("date_electronic", nbib="DEP"),
    Field("date_completed", nbib="DCOM"),
    Field("date_revised", nbib="LR"),
    Field("contribution_date", nbib="CTDT"),
)

BY_NAME = {field.name: field for field in FIELDS}

CORRECTION_TAGS = {
    "Comment in": "CIN",
    "Comment on": "CON",
    "Corrected and republished in": "CRI",
    "Corrected and republished from": "CRF",
    "Dataset described in": "DDIN",
    "Dataset use reported in": "DRIN",
    "Erratum in": "EIN",
    "Erratum for": "EFR",
    "Expression of concern in": "ECI",
    "Expression of concern for": "ECF",
    "Original report in": "ORI",
    "Republished in": "RPI",
    "Republished from": "RPF",
    "Retracted and republished in": "RRI",
    "Retracted and republished from": "RRF",
    "Retraction in": "RIN",
    "Retraction of": "ROF",
    "Summary for patients in": "SPIN",
    "Update in": "UIN",
    "Update of": "UOF",
}
"""MEDLINE's tags of `comments_corrections`, by what stands before the colon of each."""

MODEL_FIELDS = ("title", "abstract")
"""What the model reads."""

CANONICAL = tuple(
    "pmid title abstract year journal pub_types mesh_terms labels known split".split()
)
"""Fields that have one name in every row, whatever the file calls them."""

_EXACT = frozenset(("labels", "known", "split"))
_SOME_ABSTRACT = re.compile(r"\babstracts?\b")
_NO_ABSTRACT = re.compile(
    r"\b(url|link|available|has|is|length|language|id|indexed|graphical|type|source|count|words|"
    r"included|status|reviewer|screening|decision|tags?|notes?|comments?|copyright|date|number)\b"
)


@lru_cache(2**14)  # names are strangers', and a service never ends
def column_key(name: str) -> str:
    """A column's name in lower case, with single spaces for what is neither letter nor digit.

    It goes without what R and others make of a byte-order mark: `ï..Title`, `X.U.FEFF.Title`.
    """
    key = re.sub(r"[\W_]+", " ", name.lower()).strip()
    return key.removeprefix("ï ").removeprefix("x u feff ")


def _index(attribute: str) -> dict[str, tuple[Field, int]]:
    index: dict[str, tuple[Field, int]] = {}
    for field in FIELDS:
        names = getattr(field, attribute)
        parts = names.split("|") if attribute in ("columns", "derived") else names.split()
        for rank, name in enumerate(filter(None, parts)):
            index.setdefault(name, (field, rank))
    return index


_TAGS = {name: _index(name) for name in FORMAT_TAGS}
_COLUMNS = _index("columns")


def tag_field(format: str, tag: str) -> tuple[Field, int] | None:
    """The field of a format's tag, and how good a source the tag is (0 is best)."""
    return _TAGS[format].get(tag)


@cache
def tag_names(format: str, tag: str) -> frozenset[str]:
    """The columns that a format's tag may fill: of its own name, and of each field that has it."""
    fields = (field.name for field in FIELDS if tag in getattr(field, format).split())
    return frozenset((tag, *fields))


def written_tag(format: str, field: Field) -> str | None:
    """The tag under which a format gets a field."""
    return next(iter(getattr(field, format).split()), None)


def column_field(name: str) -> tuple[Field, int] | None:
    """The field that a table's column holds, and how good a source the name is (0 is best)."""
    if name in BY_NAME:
        return BY_NAME[name], -1
    found = _COLUMNS.get(column_key(name))
    if found and found[0].name in _EXACT:
        return None  # `Labels` may be anything
    if found is None and _may_be_abstract(column_key(name)):
        return BY_NAME["abstract"], 1000
    return found


def warn_of_misspelt_columns(path: Path, names: Iterable[str]) -> None:
    """Name the columns that are read under one spelling alone and have another one: `Known`."""
    present = set(names)
    for name in sorted(present):
        if (exact := column_key(name)) in _EXACT - present:
            notice("%s: column %r is not read; is it %r?", path, name, exact)


def derived_columns(field: Field) -> tuple[str, ...]:
    """Keys of the columns from which a field may be derived, best first."""
    return tuple(field.derived.split("|")) if field.derived else ()


def _may_be_abstract(key: str) -> bool:
    return bool(_SOME_ABSTRACT.search(key)) and not _NO_ABSTRACT.search(key)
