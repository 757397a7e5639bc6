"""What several test modules share: invented articles, tiny models, and their bundles."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from studytag.evaluation.scores import LabelScores, MacroScores, MicroScores, Scores
from studytag.hashing import hash_files
from studytag.labels import LabelSet
from studytag.manifest import (
    MANIFEST,
    Adjustment,
    CalibrationRecord,
    GoldenArticle,
    Manifest,
    Variant,
    write_manifest,
)
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


def edit_manifest(bundle: Path, **entries) -> None:
    """Change entries of the manifest, and its checksum with them, as a faulty program would."""
    store_manifest(bundle, json.loads((bundle / MANIFEST).read_text(encoding="utf-8")) | entries)


def store_manifest(bundle: Path, document: dict) -> None:
    """Write whatever document as the manifest, with the checksum that belongs to it."""
    stored = {name: value for name, value in document.items() if name != "checksum"}
    canonical = json.dumps(stored, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    checksum = hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
    text = json.dumps(stored | {"checksum": checksum}, indent=2, ensure_ascii=False) + "\n"
    (bundle / MANIFEST).write_bytes(text.encode("utf-8", "surrogatepass"))


def handmade_graph(width: int = len(LABELS), vocabulary: int = 40, **changes):
    """An ONNX graph that adds up a row of numbers for each token: small, and made in no time.

    Args:
        width: Outputs.
        vocabulary: Tokens that it knows.
        changes: `type` and `shape` of its input, `value` of one weight.
    """
    from onnx import TensorProto, helper, numpy_helper

    table = np.random.default_rng(0).normal(size=(vocabulary, width)).astype(np.float32)
    table[:, 0] = changes.get("value", table[:, 0])
    number = changes.get("type", TensorProto.INT64)
    ids = helper.make_tensor_value_info(
        changes.get("name", "input_ids"), number, changes.get("shape", ["b", "n"])
    )
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", width])
    nodes = [
        helper.make_node("Gather", ["table", ids.name], ["rows"]),
        helper.make_node("ReduceMean", ["rows", "axis"], ["logits"], keepdims=0),
    ]
    constants = [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(np.array([1]), "axis"),
    ]
    graph = helper.make_graph(nodes, "handmade", [ids], [logits], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def handmade_bundle(folder: Path, model=None) -> Path:
    """A bundle without an encoder, for tests of everything around one: no torch, no export."""
    import onnx
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    (folder / "onnx").mkdir(parents=True)
    onnx.save(model or handmade_graph(), folder / "onnx" / "model.onnx")
    words = ["[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz", "trial", "review", "plaque"]
    tokenizer = Tokenizer(
        models.WordPiece({word: index for index, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text("{}", encoding="utf-8")
    seal(folder)
    return folder


def seal(folder: Path) -> None:
    """Write the manifest of a handmade bundle for its files as they are now."""
    (folder / MANIFEST).unlink(missing_ok=True)
    points = {"f1": [0.5] * len(LABELS), "fixed": [0.25] * len(LABELS)}
    manifest = Manifest(
        labels=LabelSet(tuple(LABELS), {"RCT": ("Human",)}),
        text_recipe=TextRecipe(),
        max_length=MAX_LENGTH,
        encoder="handmade",
        variants={"fp32": Variant("onnx/model.onnx", points)},
        prevalence={"RCT": 0.1},
        training={"epoch": 1, "loss": 0.25},
        versions={"studytag": "0"},
        files=hash_files(folder),
    )
    write_manifest(folder, manifest)


def full_manifest() -> Manifest:
    """A manifest with something in every entry."""
    scores = Scores(
        MicroScores(0.5, 0.25, 0.75),
        MacroScores(0.5, 0.25, 0.75, 0.125, None),
        {"RCT": LabelScores(0.5, 0.25, 0.75, None, 0.125, support=3, known=9, threshold=0.25)},
    )
    variant = Variant(
        file="onnx/model.onnx",
        thresholds={"f1": [0.25, 0.5], "fixed": [0.5, 0.5]},
        scores={"f1": scores},
        parity={"max_abs_difference": 1e-6},
        adjustment=Adjustment({"RCT": 1.5}, {"Human": -0.5}),
    )
    return Manifest(
        labels=LabelSet(("RCT", "Human"), {"RCT": ("Human",)}),
        text_recipe=TextRecipe(separator=". ", max_chars=5000),
        max_length=64,
        encoder="handmade",
        variants={"fp32": variant},
        truncation_side="left",
        calibration=CalibrationRecord("platt", {"RCT": 1.25}, {"RCT": -0.25}),
        prevalence={"RCT": 0.1},
        files={"onnx/model.onnx": "0" * 64, "config.json": "1" * 64},
        versions={"studytag": "0"},
        training={"epoch": 1, "loss": 0.25},
        golden=(GoldenArticle("A trial", "Of plaque.", {"fp32": [0.5, 0.25]}),),
    )


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
