"""Which file of a folder becomes which output."""

from __future__ import annotations

from pathlib import Path

from studytag.errors import InputError
from studytag.files import FORMATS, format_name, source_files

Job = tuple[Path, Path]
"""An input and its output."""


def find_jobs(
    source: Path,
    target: Path,
    source_format: str | None = None,
    target_format: str | None = None,
    shard: tuple[int, int] = (1, 1),
) -> list[Job]:
    """Each input with its output, by name of the inputs.

    Args:
        source: A folder of files that `studytag.files.read_rows` reads.
        target: The folder of the outputs.
        source_format: Of every file, where suffix and content do not say it.
        target_format: Of every output, where it is not that of its input.
        shard: (3, 16) takes every sixteenth file, beginning with the third.

    Raises:
        InputError: the folder holds no file to read, an input's format is only read, two outputs
            would share a name, or there is no such shard.
    """
    index, count = shard
    if not 1 <= index <= count:
        raise InputError(f"shard {index}/{count}: the first number runs from 1 to the second")
    inputs: dict[Path, Path] = {}
    for file in source_files(source, check=False, format=source_format):
        output = target / _output_name(file, source_format, target_format)
        if output in inputs:
            raise InputError(
                f"{output}: would be the output of both {inputs[output].name} and {file.name}; "
                "rename one"
            )
        inputs[output] = file
    return [(file, output) for output, file in inputs.items()][index - 1 :: count]


def _output_name(file: Path, source_format: str | None, target_format: str | None) -> str:
    if target_format is not None:
        return _bare_name(file) + FORMATS[target_format].suffixes[0]
    try:
        name = format_name(file, source_format)
    except InputError:
        return file.name  # said when its turn comes
    if FORMATS[name].write is None:
        raise InputError(f"{file}: {name} is only read; name a format with --output-format")
    return file.name


def _bare_name(file: Path) -> str:
    """The name without the suffixes of a format and of gzip."""
    name = file.name
    if name.lower().endswith(".gz"):
        name = name[:-3]
    for suffix in (suffix for format in FORMATS.values() for suffix in format.suffixes):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name
