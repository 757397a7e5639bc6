"""Reading PubMed XML. All records are made up."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from studytag.errors import InputError
from studytag.files import read_rows

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


NOTHING_ELSE = dict.fromkeys(
    "date volume issue pages issn journal_abbreviation doi pmcid place_published".split()
) | {"authors": [], "keywords": [], "author_address": []}


def article(date="<Year>2020</Year>", electronic=""):
    return ARTICLE.format(date=date, electronic=electronic)


def save(path: Path, body: str, head: str = HEAD) -> Path:
    content = f"{head}<PubmedArticleSet>\n{body}</PubmedArticleSet>".encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["a.xml", "a.xml.gz"])
def test_every_column_comes_from_its_own_element(tmp_path, name):
    deleted = "<DeleteCitation><PMID>90000007</PMID></DeleteCitation>"
    first, second = read_rows(save(tmp_path / name, article() + BOOK + deleted))
    assert first == {
        "pmid": "90000001",
        "title": "Effects of H2O on Fictitia exemplaris <in vitro>.",
        "abstract": "AIM: To test 103 cells. α was low.",
        "year": 2020,
        "journal": "Journal of examples",
        "pub_types": ["Journal Article", "Comparative Study"],
        "mesh_terms": ["Cells, Cultured", "Humans"],
        "language": "eng",
    } | NOTHING_ELSE | {"date": "2020", "journal_abbreviation": "J Ex"}
    assert second == {
        "pmid": "90000002",
        "title": "A book of examples",
        "abstract": "Chapter.",
        "year": 2015,
        "journal": None,
        "pub_types": ["Review"],
        "mesh_terms": [],
        "language": "eng",
    } | NOTHING_ELSE | {"date": "2015"}


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


def test_an_encoding_may_be_given(tmp_path):
    text = (
        '<?xml version="1.0" encoding="utf-8"?><PubmedArticleSet><PubmedArticle><MedlineCitation>'
        "<Article><ArticleTitle>Café</ArticleTitle></Article></MedlineCitation></PubmedArticle>"
        "</PubmedArticleSet>"
    )
    path = tmp_path / "a.xml"
    path.write_bytes(text.encode("cp1252"))
    with pytest.raises(InputError, match="give its encoding"):
        list(read_rows(path))
    for encoding in ("cp1252", "mac-roman", "utf-16"):
        path.write_bytes(text.encode(encoding))
        assert [row["title"] for row in read_rows(path, encoding=encoding)] == ["Café"]
    path.write_bytes(text.encode("cp1252"))
    with pytest.raises(InputError, match="not utf-8 text after 0 records; give its real encoding"):
        list(read_rows(path, encoding="utf-8"))
