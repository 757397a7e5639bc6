r"""Who made a bundle: an Ed25519 signature of its manifest, which holds the hash of every file.

Keys are PEM files and the signature is the 64 bytes that the standard defines, so that openssl
makes and verifies them too::

    openssl genpkey -algorithm ed25519 -out key.pem
    openssl pkey -in key.pem -pubout -out key.pub
    openssl pkeyutl -verify -rawin -pubin -inkey key.pub -in studytag.json \
        -sigfile studytag.json.sig
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from studytag.errors import BundleError, InputError, import_extra
from studytag.manifest.folder import SIGNATURE, load_manifest
from studytag.manifest.schema import MANIFEST

_KEY_BYTES = 10_000


def new_key(path: str | Path) -> Path:
    """Make a key pair: the private key at `path`, for its owner alone, the public beside it.

    Returns:
        The public key's file: the same name with `.pub` behind it, or in the place of `.pem`.

    Raises:
        InputError: one of the two is there already, or the place cannot be written.
        MissingDependencyError: cryptography is not installed.
    """
    ed25519 = import_extra("cryptography.hazmat.primitives.asymmetric.ed25519", "sign")
    form = import_extra("cryptography.hazmat.primitives.serialization", "sign")
    path = Path(path)
    public = path.with_name(f"{path.name.removesuffix('.pem')}.pub")
    for place in (path, public):
        if place.exists():
            raise InputError(f"{place}: is there already; name another file")
    private_key = ed25519.Ed25519PrivateKey.generate()
    private_text = private_key.private_bytes(
        form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
    )
    public_text = private_key.public_key().public_bytes(
        form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo
    )
    for place, content, mode in ((path, private_text, 0o600), (public, public_text, 0o644)):
        try:
            descriptor = os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
            with open(descriptor, "wb") as stream:
                stream.write(content)
        except OSError as error:
            raise InputError(
                f"{place}: cannot be written ({error.strerror}); name another file"
            ) from error
    return public


def sign_bundle(folder: str | Path, key: str | Path) -> Path:
    """Sign a bundle whose files are all as its manifest says; replaces an earlier signature.

    Args:
        folder: The bundle.
        key: The private key, a PEM file without a passphrase.

    Returns:
        The signature's file.

    Raises:
        BundleError: the bundle is damaged.
        InputError: the key cannot be used, or the signature not written.
        MissingDependencyError: cryptography is not installed.
    """
    private_key = _key(key, "load_pem_private_key", "Ed25519PrivateKey", password=None)
    folder = Path(folder)
    load_manifest(folder)
    target = folder / SIGNATURE
    signature = private_key.sign((folder / MANIFEST).read_bytes())
    temporary = folder / f".{SIGNATURE}"  # hidden, so that one that stays behind harms nothing
    try:
        temporary.write_bytes(signature)
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror})") from error
    return target


def verify_signature(folder: str | Path, key: str | Path) -> None:
    """Verify that the owner of a key signed a bundle's manifest.

    The manifest alone: loading the bundle verifies its files against it.

    Args:
        folder: The bundle.
        key: The public key, a PEM file.

    Raises:
        BundleError: there is no signature, or it is not by this key of this manifest.
        InputError: the key cannot be used.
        MissingDependencyError: cryptography is not installed.
    """
    public_key = _key(key, "load_pem_public_key", "Ed25519PublicKey")
    exceptions = import_extra("cryptography.exceptions", "sign")
    folder = Path(folder)
    advice = "take the bundle from whom you trust, or name their key"
    try:
        signature = (folder / SIGNATURE).read_bytes()
        content = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise BundleError(f"{folder}: has no signature ({SIGNATURE}); {advice}") from error
    try:
        public_key.verify(signature, content)
    except exceptions.InvalidSignature as error:
        raise BundleError(f"{folder}: the signature is not by {key}, or not of it; {advice}") from (
            error
        )


def _key(path: str | Path, loader: str, kind: str, **options: Any) -> Any:
    """The key in a PEM file."""
    ed25519 = import_extra("cryptography.hazmat.primitives.asymmetric.ed25519", "sign")
    form = import_extra("cryptography.hazmat.primitives.serialization", "sign")
    exceptions = import_extra("cryptography.exceptions", "sign")
    try:
        with open(path, "rb") as stream:
            key = getattr(form, loader)(stream.read(_KEY_BYTES), **options)
    except (OSError, ValueError, TypeError, exceptions.UnsupportedAlgorithm) as error:
        reason = getattr(error, "strerror", None) or "not such a key in PEM, or with a passphrase"
        raise InputError(f"{path}: cannot be used as a key ({reason})") from error
    if not isinstance(key, getattr(ed25519, kind)):
        raise InputError(f"{path}: is no Ed25519 key; make one: studytag sign --new-key FILE")
    return key
