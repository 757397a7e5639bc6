"""Where a bundle may go: in place of an earlier bundle, and of nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from studytag.errors import BundleError, InputError
from studytag.manifest import CARD, MANIFEST, SIGNATURE, read_manifest, unlisted_files
from studytag.outputs import refuse_loss


def refuse_place(output: Path, kept: Iterable[str | Path | None]) -> None:
    """Refuse a place where the new bundle would replace more than an earlier one.

    Args:
        output: Will be replaced whole.
        kept: What the bundle is made of, which must not lie there; None is passed over.

    Raises:
        InputError: something would be lost, such as a trained model, or `output` is no folder.
    """
    written = {MANIFEST, SIGNATURE, CARD}
    if (output / MANIFEST).is_file():
        try:
            manifest = read_manifest(output)
        except BundleError as error:
            raise InputError(
                f"{error}; {output} is not replaced: remove it, or name another folder"
            ) from error
        if not manifest.has_graphs:
            raise InputError(f"{output}: holds a trained model; name another folder")
        written |= {PurePosixPath(name).parts[0] for name in manifest.files}
        if foreign := next(unlisted_files(output, manifest), None):
            raise InputError(
                f"{output} holds {foreign!r}, which no export wrote; name another folder"
            )
    refuse_loss(output, "export", MANIFEST, written, [Path(path) for path in kept if path])
