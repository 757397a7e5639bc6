"""The first seeds: a small invented file in each format.

    python -m tests.fuzz.seeds

Writes those that the corpus lacks. Inputs that once failed stand beside them.
"""

from __future__ import annotations

import gzip
from pathlib import Path

from studytag.files import open_writer

CORPUS = Path(__file__).parent / "corpus"

ARTICLES = [
    {
        "pmid": "1",
        "title": "A randomised trial of α-tocopherol, “blinded”",
        "abstract": "We treated 40 patients.",
        "year": 2020,
        "keywords": ["trial", "a; b"],
    },
    {"pmid": "2", "title": "=1+1", "abstract": "", "year": None, "keywords": []},
]

WRITTEN = {
    "parquet": ".parquet",
    "csv": ".csv",
    "tsv": ".tsv",
    "xlsx": ".xlsx",
    "jsonl": ".jsonl",
    "ris": ".ris",
    "nbib": ".nbib",
    "enw": ".enw",
    "bibtex": ".bib",
}

TEXTS = {
    "json": '[{"title": "A trial", "abstract": "x", "issued": {"date-parts": [[2020, 1]]}}]',
    "ciw": "FN Clarivate\nVR 1.0\nPT J\nTI A trial\nAB We\n   treated.\nPY 2020\nER\n\nEF\n",
    "ovid": "<1>\nUnique Identifier\n  1\nTitle\n  A trial\nAbstract\n  We treated patients.\n",
    "xml": (
        "<?xml version='1.0'?><PubmedArticleSet><PubmedArticle><MedlineCitation><PMID>1</PMID>"
        "<Article><ArticleTitle>A <i>trial</i></ArticleTitle><Abstract><AbstractText Label='AIM'>"
        "To treat.</AbstractText></Abstract></Article></MedlineCitation></PubmedArticle>"
        "<DeleteCitation><PMID>2</PMID></DeleteCitation></PubmedArticleSet>"
    ),
    "endnote_xml": (
        "<xml><records><record><titles><title><style>A trial</style></title></titles>"
        "<abstract>We treated.</abstract><dates><year>2020</year></dates></record></records></xml>"
    ),
    "rules": (
        "name: mine\nversion: 1\nlabels:\n  Trial:\n    pub_types: [Clinical Trial]\n"
        "    patterns: ['\\btrial\\b']\n    absence_needs: [pub_types]\n    implies: [Human]\n"
        "    doubted_by:\n      absence:\n        - until: 2018\n          title_patterns: [mice]\n"
        "  Human:\n    mesh_terms: [Humans]\n"
    ),
    "options": "learning_rate: 1.0e-4\nnum_train_epochs: 2\nseed: 7\nmax_length: 256\n",
}


def main() -> None:
    """Write every seed that is missing."""
    for target, suffix in WRITTEN.items():
        path = _place(target, suffix)
        if not path.exists():
            with open_writer(path) as writer:
                for article in ARTICLES:
                    writer.write(dict(article))
    for target, text in TEXTS.items():
        _place(target, ".txt").write_text(text, encoding="utf-8")
    _place("sniffed", ".txt").write_bytes(_place("ris", ".ris").read_bytes())
    packed = gzip.compress(_place("csv", ".csv").read_bytes(), mtime=0)
    _place("gzip", ".csv.gz").write_bytes(packed)


def _place(target: str, suffix: str) -> Path:
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"seed{suffix}"


if __name__ == "__main__":
    main()
