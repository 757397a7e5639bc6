"""`studytag sign`: say by a signature who made a bundle."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from studytag.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.set_defaults(run=run)
    parser.add_argument("bundle", nargs="?", type=Path, help="folder that export made")
    parser.add_argument(
        "--key", type=Path, metavar="FILE", help="private key that signs (PEM, Ed25519)"
    )
    parser.add_argument(
        "--new-key",
        type=Path,
        metavar="FILE",
        help="make a key here, and beside it one for others (key.pem, key.pub)",
    )


def run(options: argparse.Namespace) -> None:
    """Make a key, sign a bundle, or both.

    Raises:
        StudytagError: an option, the key or the bundle is wrong.
    """
    from studytag.manifest.signature import new_key, sign_bundle

    if options.new_key is None and options.key is None:
        raise InputError("name a key with --key, or make one with --new-key")
    if options.key is not None and options.bundle is None:
        raise InputError("name the bundle to sign; nothing was signed")
    if options.key is not None and options.new_key is not None:
        raise InputError("sign with --key, or with the key that --new-key makes; not with both")
    if options.new_key is not None:
        public = new_key(options.new_key)
        sys.stdout.write(f"{options.new_key}: keep it secret\n{public}: give it to others\n")
    if options.bundle is not None:
        signature = sign_bundle(options.bundle, options.key or options.new_key)
        sys.stdout.write(f"{signature}\n")
