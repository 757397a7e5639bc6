"""What several test modules share: invented articles, tiny models, and their bundles."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from studytag.hashing import hash_files
from studytag.labels import LabelSet
from studytag.manifest import Manifest, Variant, write_manifest
from studytag.records import TextRecipe

REPOSITORY = Path(__file__).parents[1]

LABELS = ["SystematicReview", "MetaAnalysis", "RCT", "Cohort", "Human"]
MAX_LENGTH = 64

STUDIES = LabelSet(tuple(LABELS))
OTHER_FIELD = LabelSet(
    ("Cardiology", "Heart failure", "Kinderheilkunde"), {"Heart failure": ("Cardiology",)}
)
"""Another field's labels: other names, another number, a space, an implication."""

DESIGNS = ["trial", "review", "cohort", "case report", "meta-analysis", "experiment"]
SUBJECTS = ["children", "beagle dogs", "zirconia crowns", "adults with caries", "rat molars"]
TREATMENTS = ["fluoride varnish", "sealants", "laser light", "xylitol gum", "chlorhexidine"]


def invented_articles(count: int, seed: int = 0) -> list[dict]:
    """Made-up articles of very different lengths; every seventh has no abstract."""
    random = np.random.default_rng(seed)
    articles = []
    for number in range(count):
        design, subject, treatment = (
            str(random.choice(words)) for words in (DESIGNS, SUBJECTS, TREATMENTS)
        )
        sentence = f"We gave {treatment} to {subject} and measured plaque after {number} weeks. "
        articles.append(
            {
                "pmid": f"made-up-{number}",
                "title": f"{treatment.capitalize()} in {subject}: a {design}",
                "abstract": None if number % 7 == 6 else sentence * int(random.integers(1, 9)),
                "year": 2020 + number % 4,
            }
        )
    return articles


def _save_tokenizer(folder: Path, architecture: str) -> int:
    from transformers import BertTokenizerFast, DistilBertTokenizerFast

    # Written down, not learned: the trainer breaks ties differently in every process.
    words = {word for row in invented_articles(60) for word in str(row).lower().split()}
    letters = sorted({letter for word in words for letter in word})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    whole = sorted(word for word in words if word.isalpha())
    vocabulary = list(dict.fromkeys([*special, *letters, *(f"##{x}" for x in letters), *whole]))
    listing = folder / "vocab.txt"
    listing.write_text("\n".join(vocabulary), encoding="utf-8")
    kind = {"bert": BertTokenizerFast, "distilbert": DistilBertTokenizerFast}[architecture]
    kind(str(listing), model_max_length=MAX_LENGTH).save_pretrained(folder)
    return len(vocabulary)


def save_tiny_model(folder: Path, architecture: str, labels: LabelSet = STUDIES) -> Path:
    """A best model folder as training leaves it: tiny, random weights, widely spread logits."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    folder.mkdir(parents=True)
    sizes = {
        "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
        "bert": {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
        },
    }
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        architecture,
        vocab_size=_save_tokenizer(folder, architecture),
        max_position_embeddings=MAX_LENGTH,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        problem_type="multi_label_classification",
        initializer_range=0.3,
        **sizes[architecture],
    )
    model = AutoModelForSequenceClassification.from_config(config)
    model.classifier.weight.data.mul_(2)
    model.save_pretrained(folder)
    halves = [0.5] * len(labels)
    manifest = Manifest(
        labels=labels,
        text_recipe=TextRecipe(),
        max_length=MAX_LENGTH,
        encoder=f"tiny random {architecture}",
        variants={"pytorch": Variant("model.safetensors", {"f1": halves, "fixed": halves})},
        files=hash_files(folder),
    )
    write_manifest(folder, manifest)
    return folder


def torch_probabilities(folder: Path, articles: list[dict]) -> np.ndarray:
    """PyTorch's probabilities for each article on its own, by nothing but transformers."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for article in articles:
        text = " ".join(
            part.strip() for part in (article["title"], article.get("abstract")) if part
        )
        encoded = tokenizer(text, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
        with torch.no_grad():
            rows.append(torch.sigmoid(model(**encoded).logits[0]).numpy())
    return np.array(rows)


@dataclass(frozen=True)
class Exported:
    """A tiny model, the labelled table it was exported with, and its bundle."""

    model: Path
    validation: Path
    bundle: Path
    articles: list[dict]
    expected: np.ndarray  # PyTorch's probabilities for the articles


def export_tiny(folder: Path, architecture: str, label_set: LabelSet = STUDIES) -> Exported:
    """Export a tiny model; the truth is the model's own predictions, so that its F1 is near 1."""
    from studytag.export.pipeline import export_bundle

    model = save_tiny_model(folder / "model", architecture, label_set)
    articles = invented_articles(60, seed=1)
    expected = torch_probabilities(model, articles)
    truth = expected >= np.median(expected, axis=0)
    validation = folder / "val.jsonl"
    with validation.open("w", encoding="utf-8") as stream:
        for article, row in zip(articles, truth, strict=True):
            labels = [label for label, yes in zip(label_set, row, strict=True) if yes]
            stream.write(json.dumps(article | {"labels": labels}) + "\n")
    export_bundle(model, folder / "bundle", validation, max_f1_drop=0.1)
    return Exported(model, validation, folder / "bundle", articles, expected)
