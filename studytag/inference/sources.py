"""Where a bundle comes from: a folder, a package that carries one, or the Hugging Face Hub."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from studytag.documents import read_json
from studytag.errors import InputError, MissingDependencyError, import_extra
from studytag.manifest import MANIFEST, SIGNATURE
from studytag.models import default_bundle
from studytag.version import __version__

PACKAGED = "bundle"
"""The folder inside a package that holds its bundle."""

HUB = "hf://"
"""Before the name of a model on the Hub. Nothing else is looked up there: a folder that is missing
must not become the model of a stranger who goes by its name."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def find_bundle(source: str | Path | None, revision: str | None = None) -> Path:
    """The folder of a bundle.

    Args:
        source: A folder; where there is none of that name, an installed package that carries a
            bundle; or `hf://organisation/name` on the Hub. None is the tagger that ships with
            studytag.
        revision: A branch, tag or commit of a model on the Hub.

    Raises:
        InputError: nothing of that name can be had, or a revision is named of anything but a model
            on the Hub.
        MissingDependencyError: it is on the Hub, and huggingface_hub is not installed.
    """
    if isinstance(source, str) and source.startswith(HUB):
        return hub_bundle(source.removeprefix(HUB), revision)
    folder = local_folder(source)
    if isinstance(source, str) and not folder.exists():
        if _HUB_NAME.fullmatch(source):
            raise InputError(
                f"{source}: no such folder; for the model of that name on the Hugging Face Hub, "
                f"write {HUB}{source}"
            )
        folder = _packaged(source) or folder
    if revision is not None:
        raise InputError(
            f"revision {revision!r}: only models on the Hub have one; {folder} is a folder"
        )
    return folder


def local_folder(source: str | Path | None) -> Path:
    """The folder of that name, there or not; None is that of the tagger that ships.

    Where a process was killed while it replaced the folder, it is put back first.
    """
    if source is None:
        return default_bundle()
    folder = Path(source)
    if not folder.exists():
        from studytag.files import repair_folder  # not read where it is not needed

        repair_folder(folder)
    return folder


def package_bundle(name: str) -> Path:
    """The folder of the bundle that an installed package carries.

    Args:
        name: Of the package, as pip or as Python writes it.

    Raises:
        InputError: no such package is installed, or it carries no bundle.
    """
    if folder := _packaged(name):
        return folder
    if _specification(name) is None:
        raise InputError(
            f"no package {name!r} is installed for this Python; install it with pip, or name the "
            "folder of a bundle"
        )
    raise InputError(f"package {name!r} carries no bundle; `studytag package` makes ones that do")


def hub_bundle(name: str, revision: str | None = None) -> Path:
    """The local copy of a bundle on the Hub, downloaded if it is not in the cache yet.

    Only the files of the bundle are fetched, whatever else the model's repository holds. Without a
    connection, the copy in the cache serves.

    Args:
        name: `organisation/name`.
        revision: A branch, tag or commit; None is the main branch.

    Raises:
        InputError: there is no such model or revision, it is no bundle, or it cannot be reached and
            the cache has no copy.
        MissingDependencyError: huggingface_hub is not installed.
    """
    try:
        hub = import_extra("huggingface_hub", "hub")
    except MissingDependencyError as error:
        raise MissingDependencyError(
            f"{HUB}{name}: to load it from the Hugging Face Hub: {error}"
        ) from error
    options = {"library_name": "studytag", "library_version": __version__}
    try:
        manifest = Path(hub.hf_hub_download(name, MANIFEST, revision=revision, **options))
        files = list(read_json(manifest, "the model on the Hub is damaged").get("files", ()))
        # The commit of the manifest, so that both come from the same one.
        wanted = [MANIFEST, SIGNATURE, *files]
        hub.snapshot_download(name, revision=manifest.parent.name, allow_patterns=wanted, **options)
    except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError, OSError) as error:
        raise InputError(_explain(hub, name, revision, error)) from error
    missing = [file for file in files if not (manifest.parent / file).is_file()]
    if missing:
        raise InputError(
            f"{name}: the copy in {manifest.parent} lacks {missing[0]}; load it once more with a "
            f"connection to {hub.constants.ENDPOINT}"
        )
    return manifest.parent


def _packaged(name: str) -> Path | None:
    specification = _specification(name)
    places = specification.submodule_search_locations if specification is not None else None
    folders = (Path(place, PACKAGED) for place in places or ())
    return next((folder for folder in folders if (folder / MANIFEST).is_file()), None)


def _specification(name: str) -> Any:
    """Where Python would import the package from; a top-level name is not imported for that."""
    module = re.sub(r"[-_.]+", "_", name).lower()
    return importlib.util.find_spec(module) if module.isidentifier() else None


def _explain(hub: Any, name: str, revision: str | None, error: Exception) -> str:
    """Why a model could not be had from the Hub, and what to do; one line."""
    errors, endpoint = hub.errors, hub.constants.ENDPOINT
    if isinstance(error, errors.LocalEntryNotFoundError):
        offline = hub.constants.HF_HUB_OFFLINE
        why = "HF_HUB_OFFLINE is set" if offline else f"{endpoint} did not answer"
        return (
            f"{HUB}{name}: no copy in the Hub's cache, and {why}; load it once with a connection, "
            "or copy the bundle here and name its folder"
        )
    if isinstance(error, errors.GatedRepoError):
        return f"{name}: its owners grant access on request; ask at {endpoint}/{name}, then log in"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{HUB}{name}: no such model at {endpoint}; check the name, or log in (hf auth login) "
            "if the model is private"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name}: has no revision {revision!r}; see {endpoint}/{name}/commits/main"
    if isinstance(error, errors.EntryNotFoundError):
        return f"{name}: is on the Hub, but is no bundle of studytag: it has no {MANIFEST}"
    reason = " ".join(str(error).split())[:200]
    return f"{name}: cannot be loaded from {endpoint} ({reason}); try again later"
