"""Eight invented articles that a bundle must reproduce wherever it is used, and its sealing.

`studytag doctor` predicts them again. They are short and long, with and without an abstract, in
letters beyond ASCII, and one is longer than any encoder reads: what goes wrong with a processor, a
library or a tokenizer shows in at least one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from studytag.hashing import hash_files
from studytag.inference.predictor import Predictor
from studytag.manifest import CARD, MANIFEST, SIGNATURE, GoldenArticle, Manifest, write_manifest

_SENTENCE = (
    "Participants of centre {number} were seen after {number} weeks, and the mean score fell "
    "from {before} to {after} points. "
)

ARTICLES: tuple[Mapping[str, str], ...] = (
    {
        "title": "Fluoride varnish in preschool children: a randomised controlled trial",
        "abstract": "We randomly allocated 412 children of 24 kindergartens to varnish twice a "
        "year or to no varnish. Examiners did not know the groups. After two years, new caries "
        "was less frequent with varnish (18% against 27%; P = 0.03).",
    },
    {
        "title": "Exercise for chronic neck pain: a systematic review and meta-analysis",
        "abstract": "Medline and Embase were searched to May 2021. Two reviewers chose trials and "
        "assessed the risk of bias. Nineteen trials with 1,884 adults were pooled in a "
        "random-effects model: pain fell by 0.6 standard deviations (95% CI 0.4 to 0.8; I² = 61%).",
    },
    {
        "title": "Shift work and type 2 diabetes: a prospective cohort of 9,210 nurses",
        "abstract": "Nurses without diabetes were followed for eleven years. Hazard ratios were "
        "adjusted for age, smoking and body mass index. Those with ten or more years of rotating "
        "shifts had a higher incidence (HR 1.34, 1.12–1.61).",
    },
    {
        "title": "Giant cell tumour of the patella in a 61-year-old man: a case report",
        "abstract": "A man presented with a swelling of the knee. Curettage was done, and there "
        "was no recurrence at three years.",
    },
    {
        "title": "Curcumin lowers NF-κB in HepG2 cells and in livers of C57BL/6 mice",
        "abstract": "Cells were treated with 5–20 µM curcumin for 24 h; twelve male mice were fed "
        "a high-fat diet with or without it. Expression of TNF-α fell in vitro and in vivo.",
    },
    {
        "title": "Coffee and Parkinson's disease: a case-control study in two regions",
        "abstract": "We compared 301 cases with 602 controls matched for age and sex. The odds "
        "ratio for three cups a day was 0.7. Zażółć, Müller, 研究 and naïve readers agreed.",
    },
    {"title": "What should we do about screen time?", "abstract": ""},
    {
        "title": "Rehabilitation after stroke in forty centres: protocol and results",
        "abstract": "".join(
            _SENTENCE.format(number=number, before=60 + number, after=40 + number)
            for number in range(1, 41)
        ).strip(),
    },
)


def seal_bundle(folder: Path, manifest: Manifest) -> Manifest:
    """Complete a bundle: list every file with its hash, store the golden articles, write.

    Args:
        folder: The bundle, with every file but the manifest in place.
        manifest: What it says; files and golden articles are replaced.

    Returns:
        The manifest as written.

    Raises:
        BundleError: the bundle does not work.
    """
    files = hash_files(folder, {MANIFEST, SIGNATURE, CARD})
    manifest = replace(manifest, files=files, golden=())
    write_manifest(folder, manifest)
    manifest = replace(manifest, golden=_golden(folder, manifest))
    write_manifest(folder, manifest)
    return manifest


def _golden(folder: Path, manifest: Manifest) -> tuple[GoldenArticle, ...]:
    probabilities = {}
    for variant in manifest.variants:
        with Predictor(folder, variant=variant) as predictor:  # type: ignore[arg-type]
            probabilities[variant] = predictor.predict_proba(ARTICLES).tolist()
    return tuple(
        GoldenArticle(
            article["title"],
            article["abstract"],
            {variant: rows[index] for variant, rows in probabilities.items()},
        )
        for index, article in enumerate(ARTICLES)
    )
