"""The parts of training: batches, tokens, loss, head, and the recipes for clusters."""

from __future__ import annotations

import json
import pickle
import shlex
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from support import LABELS, REPOSITORY, invented_articles, save_tiny_model
from transformers import AutoTokenizer, DistilBertConfig, DistilBertForSequenceClassification

from studytag.labels import LabelSet
from studytag.records import TextRecipe
from studytag.training.batching import Collator, LengthGroupedBatches
from studytag.training.distilbert import train_first_token
from studytag.training.encoder import load_encoder
from studytag.training.head import init_output_bias, parameter_groups
from studytag.training.loss import masked_bce
from studytag.training.options import parse_config
from studytag.training.tokenization import tokenise
from studytag.words.excerpt import Excerpt
from studytag.words.ngrams import BUCKETS, Ngrams


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
    left = Collator(table, padding_id=9, padding_side="left")([1, 0])
    assert left["input_ids"].tolist() == [[9, 9, 8], [5, 6, 7]]
    assert left["attention_mask"].tolist() == [[0, 0, 1], [1, 1, 1]]
    batch = Collator(table, padding_id=9)([1, 0])
    assert batch["input_ids"].tolist() == [[8, 9, 9], [5, 6, 7]]
    assert batch["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch["labels"].dtype == torch.float32
    assert batch["labels"].tolist() == [[0, 1], [1, 0]]
    assert batch["known"].tolist() == [[1, 0], [0, 1]]


def test_a_truncated_epoch_keeps_the_special_tokens_of_a_text():
    lengths = np.array([4, 200, 100, 9])
    sampler = LengthGroupedBatches(lengths, 4, 512, truncated_epochs=1, truncated_length=100)
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
    left = Collator(table, padding_id=0, truncation_side="left", limit=4)
    assert left([0])["input_ids"].tolist() == [[101, 8, 9, 102]]


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_truncated_epoch_reads_of_each_row_what_its_excerpt_picks(side):
    random = np.random.default_rng(0)
    weights = random.integers(-127, 128, (50 + BUCKETS + 1, 1)).astype(np.int8)
    weights[-1] = 0  # of padding
    excerpt = Excerpt(Ngrams(weights, np.ones(1), np.zeros(1)))
    rows = [random.integers(1, 50, length) for length in (120, 20, 64)]
    truth = np.ones((3, 1), dtype=bool)
    table = SimpleNamespace(token_ids=rows.__getitem__, truth=truth, known=truth)
    collate = Collator(table, padding_id=0, padding_side=side, limit=60, excerpt=excerpt)
    batch = collate([0, 1, 2])
    assert batch["input_ids"].shape == (3, 60)
    for ids, mask, row in zip(batch["input_ids"], batch["attention_mask"], rows, strict=True):
        text = torch.from_numpy(row)[None]
        places = excerpt(text, torch.ones_like(text), torch.tensor([60]))[0]
        assert ids[mask == 1].tolist() == row[places].tolist()
    collate.limit = None
    assert collate([0])["input_ids"].tolist() == [rows[0].tolist()]


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


def test_token_ids_are_stored_unchanged(tmp_path):
    folder = save_tiny_model(tmp_path / "tiny", "distilbert")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    articles = invented_articles(41) * 101  # more than are tokenised at once
    source = tmp_path / "table.jsonl"
    lines = [json.dumps(a | {"labels": ["RCT"], "known": ["RCT", "Human"]}) for a in articles]
    source.write_text("\n".join(lines))
    labels, recipe = LabelSet(tuple(LABELS)), TextRecipe()
    table = tokenise(source, labels, tokenizer, recipe, 20, tmp_path / "cache")
    for again in (table, pickle.loads(pickle.dumps(table))):
        assert len(again) == len(articles)
        for row in (0, 40, 4095, 4096, 4140):
            article = articles[row]
            text = recipe.compose_record(article)
            expected = tokenizer(text, truncation=True, max_length=20)["input_ids"]
            assert again.token_ids(row).tolist() == expected
            assert again.lengths[row] == len(expected)
        assert again.truth.tolist() == [[name == "RCT" for name in LABELS]] * 4141
        assert again.known.tolist() == [[name in ("RCT", "Human") for name in LABELS]] * 4141


TRAIN = REPOSITORY / "train"


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
    assert options.training_script == "studytag.cli.train"
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
    assert options.training_script == "studytag.cli.train"
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


def test_fresh_output_biases_are_the_labels_frequencies(tmp_path):
    folder = save_tiny_model(tmp_path / "tiny", "distilbert")
    model, _ = load_encoder(str(folder), LabelSet(("A", "B", "C")))
    truth = np.zeros((98, 3), dtype=bool)
    truth[:9, 0] = truth[50:, 1] = True
    known = np.ones_like(truth)
    known[:50, 1] = known[:, 2] = False
    init_output_bias(model, truth, known)
    # With one positive and one negative more than there are: 10 of 100, 49 of 50, 1 of 2.
    predicted = torch.sigmoid(model.classifier.bias).tolist()
    assert predicted == pytest.approx([0.1, 0.98, 0.5], abs=1e-6)
    init_output_bias(model, ~truth, known)
    assert torch.sigmoid(model.classifier.bias).tolist() == predicted, "it has been trained before"


def test_the_head_learns_faster_and_only_matrices_decay(tmp_path):
    folder = save_tiny_model(tmp_path / "tiny", "distilbert")
    model, _ = load_encoder(str(folder), LabelSet(("A", "B")))
    groups = parameter_groups(model, 0.1, 10, 0.01)
    group_of = {id(p): group for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        group = group_of[id(parameter)]
        assert group["lr"] == pytest.approx(1.0 if "classifier" in name else 0.1), name
        assert group["weight_decay"] == (0.01 if parameter.ndim > 1 else 0), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_distilbert_trained_by_its_first_token_is_the_same_function(dtype):
    torch.manual_seed(0)
    shape = {"vocab_size": 99, "dim": 32, "hidden_dim": 64, "n_heads": 4, "n_layers": 3}
    config = DistilBertConfig(
        **shape, num_labels=3, dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0
    )
    stock = DistilBertForSequenceClassification(config).train()
    ours = DistilBertForSequenceClassification(config).train()
    ours.load_state_dict(stock.state_dict())
    train_first_token(ours)
    batch = {"input_ids": torch.randint(0, 99, (3, 20)), "attention_mask": torch.ones(3, 20)}
    batch["attention_mask"][0, 5:] = batch["attention_mask"][2, -1:] = 0
    outputs = []
    for model in (stock, ours):
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            outputs.append(model(**batch).logits)
        outputs[-1].float().square().sum().backward()
    close = {"rtol": 1e-4, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 0.1, "atol": 0.05}
    torch.testing.assert_close(outputs[1], outputs[0], **close)
    for own, other in zip(ours.parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, **close)


def test_distilbert_drops_out_while_it_is_trained_only():
    config = DistilBertConfig(
        vocab_size=99, dim=32, hidden_dim=64, n_heads=4, attention_dropout=0.5
    )
    model = DistilBertForSequenceClassification(config)
    train_first_token(model)
    batch = {"input_ids": torch.arange(40).reshape(2, 20), "attention_mask": torch.ones(2, 20)}
    first, second = (model.train()(**batch).logits for _ in range(2))
    assert not torch.equal(first, second)
    first, second = (model.eval()(**batch).logits for _ in range(2))
    assert torch.equal(first, second)
