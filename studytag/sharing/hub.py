"""A bundle to the Hugging Face Hub, in one commit."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studytag.documents import read_json
from studytag.errors import InputError, import_extra
from studytag.manifest import CARD, MANIFEST, SIGNATURE, load_manifest
from studytag.sharing.card import hub_card
from studytag.version import __version__


def push_bundle(
    bundle: str | Path,
    name: str,
    *,
    revision: str | None = None,
    private: bool = False,
    message: str | None = None,
    license: str | None = None,
    evaluation: str | Path | None = None,
    dataset: str | None = None,
) -> str:
    """Upload a bundle as one commit; the repository is made if there is none.

    A model card is written where neither the folder nor the repository has one. Graphs that the
    bundle no longer has are deleted from the repository; other files there are left alone.

    Args:
        bundle: The folder.
        name: `organisation/name`.
        revision: The branch to commit to, made if it is not there; None is the main branch.
        private: Make the repository private if it is new.
        message: Of the commit.
        license: The Hub's identifier of the weights' licence, for a card that is written.
        evaluation: What `studytag evaluate --output` wrote; its scores go to `.eval_results/`.
        dataset: The benchmark on the Hub (`organisation/name`) whose articles were scored.

    Returns:
        The address of the commit.

    Raises:
        BundleError: the bundle is incomplete or altered.
        InputError: the name, the evaluation or the rights to write are missing, or the Hub cannot
            be reached.
        MissingDependencyError: huggingface_hub is not installed.
    """
    hub = import_extra("huggingface_hub", "hub")
    bundle = Path(bundle)
    if (evaluation is None) != (dataset is None):
        raise InputError("an evaluation and the dataset that it is of go together; give both")
    manifest = load_manifest(bundle)
    files: dict[str, Path | bytes] = {file: bundle / file for file in [*manifest.files, MANIFEST]}
    if evaluation is not None and dataset is not None:
        files |= evaluation_file(Path(evaluation), dataset)
    for file in (CARD, SIGNATURE):
        if (bundle / file).is_file():
            files[file] = bundle / file
    api = hub.HfApi(library_name="studytag", library_version=__version__)
    try:
        api.create_repo(name, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        present = api.list_repo_files(name, revision=revision)
        if CARD not in present:
            files.setdefault(CARD, hub_card(name, manifest, license).encode())
        commit = api.create_commit(
            name,
            _operations(hub, files, _stale(present, files)),
            commit_message=message or f"Bundle of studytag {__version__}",
            revision=revision,
        )
    except (hub.errors.HFValidationError, *_failures(hub)) as error:
        raise InputError(_explain(hub, name, error)) from error
    return str(commit.commit_url)


def evaluation_file(evaluation: Path, dataset: str) -> dict[str, bytes]:
    """Scores in the form in which the Hub shows them and ranks models by them.

    One file of `.eval_results/` for each benchmark, one entry for each task. Our tasks are
    `micro_f1`, `macro_f1` and `macro_average_precision`: a benchmark names them in its `eval.yaml`.

    Args:
        evaluation: What `studytag evaluate --output` wrote.
        dataset: The benchmark on the Hub.

    Returns:
        Its path in the repository, and its content: YAML, and JSON as well.

    Raises:
        InputError: the file is not such an evaluation.
    """
    advice = "write it with: studytag evaluate TABLE --bundle BUNDLE --output FILE"
    stored = read_json(evaluation, advice)
    try:
        micro, macro = stored["scores"]["micro"], stored["scores"]["macro"]
        values = {
            "micro_f1": micro["f1"],
            "macro_f1": macro["f1"],
            "macro_average_precision": macro["average_precision"],
        }
        notes = (
            f"{stored['articles']} articles, variant {stored['variant']}, "
            f"operating point {stored['operating_point']}"
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{evaluation}: entry {error} is missing; {advice}") from error
    entries = [
        {"dataset": {"id": dataset, "task_id": task}, "value": round(value, 4), "notes": notes}
        for task, value in values.items()
        if value is not None
    ]
    text = json.dumps(entries, indent=2, ensure_ascii=False) + "\n"
    return {f".eval_results/{dataset.replace('/', '--')}.yaml": text.encode()}


def _stale(present: list[str], files: Mapping[str, object]) -> list[str]:
    """What an earlier bundle left: its signature, and graphs, which others would load by name."""
    return [
        file
        for file in present
        if file.startswith(("onnx/", "openvino/")) or file == SIGNATURE
        if file not in files
    ]


def _operations(hub: Any, files: dict[str, Path | bytes], stale: list[str]) -> list[Any]:
    return [
        *(hub.CommitOperationDelete(file) for file in stale),
        *(
            hub.CommitOperationAdd(file, source if isinstance(source, bytes) else str(source))
            for file, source in files.items()
        ),
    ]


def _failures(hub: Any) -> tuple[type[Exception], ...]:
    """What its requests raise: the Hub's own errors, and those of requests (0.x) or httpx (1.x)."""
    failures: list[type[Exception]] = [hub.errors.HfHubHTTPError, OSError]
    try:
        failures.append(importlib.import_module("httpx").HTTPError)
    except ImportError:
        pass
    return tuple(failures)


def _explain(hub: Any, name: str, error: Exception) -> str:
    """Why nothing was uploaded, and what to do; one line."""
    endpoint = hub.constants.ENDPOINT
    reason = " ".join(str(error).split())[:200]
    if isinstance(error, hub.errors.HFValidationError):
        return f"{name!r} is no name of a model: write organisation/name"
    if hub.constants.HF_HUB_OFFLINE:
        return f"{name}: HF_HUB_OFFLINE is set, so nothing is uploaded; unset it"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return (
            f"{name}: {endpoint} does not let you write there; log in with `hf auth login`, or set "
            "HF_TOKEN to a token that may write"
        )
    if status is None:
        return f"{name}: {endpoint} cannot be reached ({reason}); nothing was uploaded"
    return f"{name}: {endpoint} refused the upload ({reason}); nothing was committed"
