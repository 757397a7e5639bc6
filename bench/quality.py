"""What would I get? Trains, exports and scores on real records, beside simpler systems.

    python bench/quality.py --source pubmed.parquet --jobs 2

Trains the runs of bench/quality.yaml, and scores them beside every article Human, keyword rules,
TF-IDF with logistic regression, and frozen embeddings with logistic regression (systems.py). What
each system says of the judged validation and test articles is kept in results/probabilities/NAME/,
so that the same command makes the tables again, results/NAME.json and .md, without training
anything; no text goes there. A system of which only figures are kept, in NAME.json, keeps them
unless --again names it. Other records want a --name of their own. Trainings lie in --work; an
interrupted one goes on where it stopped.
Thresholds are tuned on the validation split, of every system alike; the test split is scored once.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import systems
import yaml
from judgements import BASELINES, RESULTS, VARIANTS, RuleSet, Run, baselines, judged_by
from scoring import HEADLINE, gains, score_system
from tables import markdown
from trainings import train

from studytag.bundle import DEFAULT_OPERATING_POINT
from studytag.files import write_json_atomically, write_text_atomically
from studytag.training.config import parse_config


def names_of(run: Run) -> list[str]:
    """Every system that a run may be shown as."""
    kinds = ("", ", tuned", ", uncalibrated", *(f", {title}" for title in VARIANTS.values()))
    return [f"{run.name}{kind}" for kind in kinds]


def systems_of(
    options: argparse.Namespace, runs: list[Run], rules: RuleSet, tables: dict[str, RuleSet]
) -> dict[str, tuple[str, str, list[list[systems.Probabilities]]]]:
    """What each run's systems say of a rule set's articles, what they decide by, when measured."""
    found = {}
    for run in runs:
        for system, seeds in judged_by(options, run, rules, tables[run.learns].tables).items():
            found[system] = (run.decides, rules.measured(system, run.seeds[0]), seeds)
        if run.decides == "fixed":
            _, measured, seeds = found[run.name]
            found[f"{run.name}, tuned"] = (DEFAULT_OPERATING_POINT, measured, seeds)
    return found


def measure(options: argparse.Namespace, runs: list[Run], before: dict[str, Any]) -> dict[str, Any]:
    """Everything that the tables show, by rule set.

    Args:
        options: Of the command line.
        runs: Those that the tables show.
        before: The result that is there, or an empty one.
    """
    anew = {name for run in runs if run.name in options.again for name in names_of(run)}
    anew |= set(options.again)
    tables = {
        name: RuleSet.build(options, name) for run in runs for name in (run.learns, *run.scored_on)
    }
    result: dict[str, Any] = {}
    for name in dict.fromkeys(name for run in runs for name in run.scored_on):
        rules = tables[name]
        earlier = before.get("rules", {}).get(name, {})
        kept = {s: entry for s, entry in earlier.get("systems", {}).items() if s not in anew}
        own = [run for run in runs if name in run.scored_on]
        judged = [
            run for run in own if all(rules.stored(run.name, seed).exists() for seed in run.seeds)
        ]
        untold = [run for run in own if run not in judged and run.name not in kept]
        train(
            [
                run.training(options.work, seed, tables[run.learns].tables)
                for run in untold
                for seed in run.seeds
            ],
            *(options.work / "cache", options.mixed_precision, options.jobs),
        )
        found = {
            system: (DEFAULT_OPERATING_POINT, rules.measured(system, 0), seeds)
            for system, seeds in baselines(options, rules, kept).items()
        } | systems_of(options, [*judged, *untold], rules, tables)
        scored = kept | {
            system: {"measured": measured, **score_system(rules.labels, *rules.judged, seeds, by)}
            for system, (by, measured, seeds) in found.items()
        }
        val, test = rules.judged
        result[name] = {
            "articles": {
                "train": len(rules.train.rows),
                "judged val": len(val.rows),
                "judged test": len(test.rows),
            },
            "gains": gains(scored),
            "max_probability_difference": earlier.get("max_probability_difference", {})
            | {
                system: float(np.abs(seeds[0][1] - found[HEADLINE][2][0][1]).max())
                for system, (_, _, seeds) in found.items()
                if system.startswith(f"{HEADLINE}, ONNX")
            },
            "systems": {
                system: {key: value for key, value in scored[system].items() if key != "draws"}
                for system in (*BASELINES, *(name for run in runs for name in names_of(run)))
                if system in scored
            },
        }
    return {
        "configurations": {
            run.name: asdict(parse_config(["--config", run.config])) for run in runs
        },
        "rules": result,
    }


def main() -> None:
    """Run what is missing and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="table of PubMed records")
    parser.add_argument("--runs", type=Path, default=Path(__file__).with_suffix(".yaml"))
    parser.add_argument("--again", nargs="*", default=[], help="systems to measure anew")
    parser.add_argument("--work", type=Path, help="folder of trainings (artifacts/bench/NAME)")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once, each on own cores")
    parser.add_argument("--mixed_precision", choices=("no", "bf16"), default="no")
    parser.add_argument("--name", default="quality", help="of the results; another for others")
    options = parser.parse_args()
    options.work = options.work or Path("artifacts/bench", options.name)
    stored = yaml.safe_load(options.runs.read_text(encoding="utf-8"))
    runs = [Run(name, **entry) for name, entry in stored.items()]
    there = RESULTS / f"{options.name}.json"
    before = json.loads(there.read_text(encoding="utf-8")) if there.exists() else {}
    result = measure(options, runs, before)
    write_json_atomically(there, result)
    write_text_atomically(RESULTS / f"{options.name}.md", markdown(result))
    sys.stdout.write(markdown(result))


if __name__ == "__main__":
    main()
