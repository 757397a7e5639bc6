"""The parts of a record of PubMed's XML, and which column holds each: tables, and their texts.

Texts of several elements are written as PubMed writes them in its own format, MEDLINE.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from studytag.files.values import first_text
from studytag.records import clean

_LEVELS = frozenset(
    "MedlineCitation Article Journal JournalIssue MedlineJournalInfo Pagination PubmedData "
    "BookDocument Book Publisher PubmedBookData".split()
)
"""Elements that only group others; of books they are not those of articles."""

_LISTED = frozenset(
    "Abstract OtherAbstract AuthorList Author InvestigatorList Investigator AffiliationInfo "
    "PersonalNameSubjectList PersonalNameSubject KeywordList PublicationTypeList DataBankList "
    "DataBank AccessionNumberList GrantList Grant ChemicalList Chemical SupplMeshList "
    "GeneSymbolList MeshHeadingList MeshHeading CommentsCorrectionsList CommentsCorrections "
    "History ArticleIdList PubDate ArticleDate DateCompleted DateRevised ContributionDate "
    "PubMedPubDate".split()
)
"""Elements whose children are read one by one."""

_READ = frozenset(
    "PMID ArticleTitle VernacularTitle BookTitle CollectionTitle VolumeTitle AbstractText "
    "CopyrightInformation Language Title ISOAbbreviation MedlineTA NlmUniqueID ISSN ISSNLinking "
    "Isbn Volume Issue MedlinePgn StartPage EndPage Edition PublisherName PublisherLocation "
    "Country Year Month Day Hour Minute Season MedlineDate "
    "PublicationStatus PublicationType LastName ForeName Initials Suffix CollectiveName "
    "Identifier Affiliation Keyword DataBankName AccessionNumber GrantID Acronym Agency "
    "RegistryNumber NameOfSubstance SupplMeshName GeneSymbol DescriptorName QualifierName "
    "RefSource Note CitationSubset OtherID GeneralNote SpaceFlightMission NumberOfReferences "
    "CoiStatement ELocationID ArticleId".split()
)
"""Elements whose text is in a column."""


class Parts:
    """What a record says, by the name of its elements, on whichever level they stand.

    Args:
        record: A PubmedArticle, or a PubmedBookArticle, whose parts lie one level higher.
    """

    def __init__(self, record: Any) -> None:
        self._found: dict[str, list[Any]] = {}
        self._gather(record)

    def _gather(self, level: Any) -> None:
        for child in level.iterchildren("*"):
            if child.tag in _LEVELS:
                self._gather(child)
            else:
                self._found.setdefault(child.tag, []).append(child)

    def each(self, tags: str) -> Iterator[Any]:
        """The elements with these names, those with the first name first."""
        for tag in tags.split():
            yield from self._found.get(tag, ())

    def first(self, tags: str) -> str | None:
        """The text of the first of these elements that has some."""
        return first_text(*map(text, self.each(tags)))


def unread(level: Any, named: set[str]) -> Iterator[Any]:
    """The elements of a record that have text, but no column; `named` ones are passed over."""
    for child in level.iterchildren("*"):
        if child.tag in _READ or child.tag in named:
            continue
        if child.tag in _LEVELS or child.tag in _LISTED:
            yield from unread(child, named)
        elif text(child):
            named.add(child.tag)
            yield child


def text(element: Any) -> str:
    """All text in `element`, also in italics, sub- and superscripts; white space made one space."""
    return clean("".join(element.itertext()))


def child_texts(element: Any, *tags: str) -> list[str]:
    """The texts of the children with these names, or of all, without empty ones."""
    return [found for found in map(text, element.iterchildren(*tags or "*")) if found]


def sections(abstract: Any) -> list[str]:
    """The sections of an abstract, each after its label."""
    found = ((clean(part.get("Label")), text(part)) for part in abstract.iterfind("AbstractText"))
    return [f"{label}: {said}" if label else said for label, said in found if said]


def person(element: Any) -> str:
    """`Family, Given Suffix`, or the name of a group."""
    family, given, initials, suffix = (
        " ".join(child_texts(element, tag)) for tag in "LastName ForeName Initials Suffix".split()
    )
    rest = " ".join(filter(None, (given or initials, suffix)))
    return ", ".join(filter(None, (family, rest))) or " ".join(
        child_texts(element, "CollectiveName")
    )


def day(element: Any) -> str:
    """`20200131`."""
    return "".join(part.zfill(2) for part in child_texts(element, "Year", "Month", "Day"))


def _event(element: Any) -> str:
    """`2020/01/31 06:00 [received]`."""
    date = "/".join(part.zfill(2) for part in child_texts(element, "Year", "Month", "Day"))
    hour, minute = (clean(element.findtext(tag)).zfill(2) for tag in ("Hour", "Minute"))
    return f"{date} {hour}:{minute} [{element.get('PubStatus')}]" if date else ""


def _identifier(element: Any) -> str:
    """`ORCID: 0000-0000-0000-0000`."""
    return ": ".join(filter(None, (clean(element.get("Source")), text(element))))


def _heading(element: Any) -> str:
    """`Caries/*therapy`: what is a major topic has an asterisk."""
    return "/".join(
        f"*{said}" if part.get("MajorTopicYN") == "Y" else said
        for part in element.iterchildren("DescriptorName", "QualifierName")
        if (said := text(part))
    )


def _chemical(element: Any) -> str:
    """`059QF0KO0R (Water)`."""
    number, name = (
        " ".join(child_texts(element, tag)) for tag in ("RegistryNumber", "NameOfSubstance")
    )
    return f"{number} ({name})" if name else number


def _grant(element: Any) -> str:
    """`R01 HL000001/HL/NHLBI NIH HHS/United States`."""
    return "/".join(child_texts(element))


def _accession(element: Any) -> str:
    """`ClinicalTrials.gov/NCT00000001`; a bank's name alone where it gives no number."""
    bank = next(element.iterancestors("DataBank"), element)
    if element.tag == "DataBankName":
        return "" if bank.find(".//AccessionNumber") is not None else text(element)
    return "/".join((*child_texts(bank, "DataBankName"), text(element)))


def _correction(element: Any) -> str:
    """`Retraction in: J Ex. 2020;1:2. PMID: 90000009`."""
    relation = re.sub(r"(?<=[a-z])(?=(?:and)?[A-Z])", " ", element.get("RefType", ""))
    pmids = (f"PMID: {pmid}" for pmid in child_texts(element, "PMID"))
    said = " ".join((*child_texts(element, "RefSource"), *pmids, *child_texts(element, "Note")))
    return ": ".join(filter(None, (relation.capitalize(), said))) if said else ""


TEXTS = {
    "journal": "Title ISOAbbreviation MedlineTA",
    "volume": "Volume",
    "issue": "Issue",
    "issn": "ISSN",
    "journal_abbreviation": "ISOAbbreviation MedlineTA",
    "publisher": "PublisherName",
    "place_published": "Country PublisherLocation",
    "edition": "Edition",
    "vernacular_title": "VernacularTitle",
    "book_title": "BookTitle",
    "collection_title": "CollectionTitle",
    "volume_title": "VolumeTitle",
    "issn_linking": "ISSNLinking",
    "journal_id": "NlmUniqueID",
    "number_of_references": "NumberOfReferences",
    "conflict_of_interest": "CoiStatement",
    "publication_status": "PublicationStatus",
}
"""Columns of one text, and the elements of which the first with text is it."""

DATES = {
    "date_electronic": "ArticleDate",
    "date_completed": "DateCompleted",
    "date_revised": "DateRevised",
    "contribution_date": "ContributionDate",
}
"""Columns of dates, and their elements."""

LISTS: dict[str, tuple[str, str, Callable[[Any], str]]] = {
    "pub_types": ("PublicationTypeList PublicationType", "PublicationType", text),
    "mesh_terms": ("MeshHeadingList", "DescriptorName", text),
    "mesh_indexing": ("MeshHeadingList", "MeshHeading", _heading),
    "keywords": ("KeywordList", "Keyword", text),
    "author_address": ("AuthorList", "Affiliation", text),
    "author_ids": ("AuthorList InvestigatorList", "Identifier", _identifier),
    "investigator_address": ("InvestigatorList", "Affiliation", text),
    "personal_name_subjects": ("PersonalNameSubjectList", "PersonalNameSubject", person),
    "secondary_ids": ("DataBankList", "DataBankName AccessionNumber", _accession),
    "grants": ("GrantList", "Grant", _grant),
    "chemicals": ("ChemicalList", "Chemical", _chemical),
    "supplementary_concepts": ("SupplMeshList", "SupplMeshName", text),
    "gene_symbols": ("GeneSymbolList", "GeneSymbol", text),
    "comments_corrections": ("CommentsCorrectionsList", "CommentsCorrections", _correction),
    "copyright_information": ("Abstract OtherAbstract", "CopyrightInformation", text),
    "notes": ("GeneralNote", "GeneralNote", text),
    "space_flight_missions": ("SpaceFlightMission", "SpaceFlightMission", text),
    "citation_subsets": ("CitationSubset", "CitationSubset", text),
    "other_ids": ("OtherID", "OtherID", _identifier),
    "isbn": ("Isbn", "Isbn", text),
    "publication_history": ("History", "PubMedPubDate", _event),
}
"""Columns of lists without repeats: the parts, the elements in them, and the text of each."""
