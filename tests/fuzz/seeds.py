"""The first seeds: a small invented file in each format.

    python -m tests.fuzz.seeds

Writes those that the corpus lacks. Inputs that once failed stand beside them.
"""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

from studytag.files import open_writer
from tests.fuzz.manifest import VALID
from tests.fuzz.service import UPLOAD
from tests.fuzz.targets import CORPUS, SHEET

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
    "flags": (
        "--config\nminilm\n--learning-rate=1e-4\n--calibrate\nno\n--max_train_steps\n9\n"
        '--lr-scheduler-kwargs\n{"num_cycles": 2}\n--allow-changed=seed,learning-rate\n'
        "--early-stopping-patience=none"
    ),
    "options": "learning_rate: 1.0e-4\nnum_train_epochs: 2\nseed: 7\nmax_length: 256\n",
}

_JSON = "Content-Type: application/json\r\n"
_TENSOR = (
    '{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES",'
    '"parameters":{"binary_data_size":11}}]}'
)

REQUESTS = {
    "tag": (
        "POST /v1/tag",
        _JSON,
        '{"articles":[{"id":"1","title":"A trial","abstract":"We treated. It helped."}],'
        '"operating_point":"f1","explain":true}',
    ),
    "tag-one": ("POST /v1/tag", _JSON, '{"articles":{"title":"A trial"}}'),
    "predict": (
        "POST /predict",
        _JSON,
        '{"inputs":[["A","B"]],"raw_scores":true,"truncate":false,"parameters":{"top_k":1,'
        '"function_to_apply":"softmax"}}',
    ),
    "root": ("POST /", _JSON, '{"inputs":"A trial"}'),
    "infer": (
        "POST /v2/models/studytag/infer",
        _JSON,
        '{"id":"1","inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":["A trial"]}],'
        '"outputs":[{"name":"present"}]}',
    ),
    "infer-binary": (
        "POST /v2/models/studytag/infer",
        f"Inference-Header-Content-Length: {len(_TENSOR)}\r\n",
        _TENSOR + "\x07\0\0\0A trial",
    ),
    "rows": (
        "GET /v1/files/{job}/rows?label=RCT&decision=present&search=a&sort=year&descending=1"
        "&offset=0&limit=5",
        "",
        "",
    ),
    "download": ("GET /v1/files/{job}/download?format=ris&keep=RCT&part=kept", "", ""),
    "events": ("GET /v1/files/{job}/events", "", ""),
    "status": ("GET /v1/files/{job}", "Origin: http://x\r\n", ""),
    "delete": ("DELETE /v1/files/{job}", "Authorization: Bearer x\r\n", ""),
    "page": ("GET /index.html", "Range: bytes=0-9\r\nIf-None-Match: x\r\n", ""),
    "metrics": ("GET /metrics", "Accept: */*\r\n", ""),
}
"""Line, headers and body."""


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
    for name, (line, headers, body) in REQUESTS.items():
        request = f"{line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}"
        _place("service", f"-{name}.txt").write_bytes(request.encode())
    _place("service", "-upload.txt").write_bytes(UPLOAD)
    whole = json.dumps(VALID).encode()
    _place("manifest", ".json").write_bytes(whole)
    _place("manifest", "-lines.txt").write_bytes(b'\0\x07\x02"x"\n\0\x01\x01name\n\0\x10\0')
    with zipfile.ZipFile(_place("xlsx", ".xlsx")) as workbook:
        _place("sheet", ".xml").write_bytes(workbook.read(SHEET))
    _place("sniffed", ".txt").write_bytes(_place("ris", ".ris").read_bytes())
    packed = gzip.compress(_place("csv", ".csv").read_bytes(), mtime=0)
    _place("gzip", ".csv.gz").write_bytes(packed)


def _place(target: str, suffix: str) -> Path:
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"seed{suffix}"


if __name__ == "__main__":
    main()
