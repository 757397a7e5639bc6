"""`studytag sign`: who made a bundle?"""

from __future__ import annotations

import json
import pickle
import re
import shutil
import sys
from functools import partial

import pytest
from support import edit_manifest, handmade_bundle

from studytag import Predictor
from studytag.cli.main import main
from studytag.errors import BundleError, InputError, MissingDependencyError
from studytag.inference.ray import Tagger
from studytag.inference.spark import tag_partitions
from studytag.manifest import MANIFEST, SIGNATURE
from studytag.manifest.signature import new_key, sign_bundle, verify_signature
from studytag.models import default_bundle


@pytest.fixture
def bundle(tmp_path):
    return handmade_bundle(tmp_path / "bundle")


@pytest.fixture
def keys(tmp_path):
    return tmp_path / "key.pem", new_key(tmp_path / "key.pem")


def test_a_signed_bundle_is_taken_and_every_change_refused(bundle, keys):
    private, public = keys
    sign_bundle(bundle, private)
    Predictor(bundle, require_signature=public).close()
    # Whoever changes thresholds can make the checksum fit, but not the signature.
    variants = json.loads((bundle / MANIFEST).read_text())["variants"]
    variants["fp32"]["thresholds"]["f1"] = [0.9] * 5
    edit_manifest(bundle, variants=variants)
    Predictor(bundle).close()
    with pytest.raises(BundleError, match="signature is not by"):
        Predictor(bundle, require_signature=public)


def test_files_are_held_by_the_signed_manifest(bundle, keys):
    private, public = keys
    sign_bundle(bundle, private)
    (bundle / "config.json").write_text("{} ")
    with pytest.raises(BundleError, match="has changed since it was written"):
        Predictor(bundle, require_signature=public)
    with pytest.raises(BundleError, match="has changed since it was written"):
        sign_bundle(bundle, private)


def test_no_signature_or_anothers_is_refused(bundle, keys, tmp_path):
    private, public = keys
    with pytest.raises(BundleError, match="has no signature"):
        verify_signature(bundle, public)
    sign_bundle(bundle, private)
    other = new_key(tmp_path / "other.pem")
    with pytest.raises(BundleError, match="signature is not by"):
        verify_signature(bundle, other)
    signature = bundle / f"{MANIFEST}.sig"
    for damaged in (b"", signature.read_bytes()[:-1], bytes(64), signature.read_bytes() + b"\n"):
        signature.write_bytes(damaged)
        with pytest.raises(BundleError, match="signature is not by"):
            verify_signature(bundle, public)


def test_what_is_no_key_is_told_in_one_line(bundle, keys, tmp_path):
    private, public = keys
    with pytest.raises(InputError, match="is there already"):
        new_key(private)  # never overwritten
    assert private.stat().st_mode & 0o077 == 0
    for wrong in (public, tmp_path / "none", bundle / MANIFEST):
        with pytest.raises(InputError, match="cannot be used as a key"):
            sign_bundle(bundle, wrong)
    with pytest.raises(InputError, match="cannot be used as a key"):
        verify_signature(bundle, private)


def test_the_command_makes_keys_and_signs(bundle, tmp_path, capsys):
    main(["sign", str(bundle), "--new-key", str(tmp_path / "k.pem")])
    assert "keep it secret" in capsys.readouterr().out
    verify_signature(bundle, tmp_path / "k.pub")
    with pytest.raises(SystemExit):
        main(["sign", str(bundle)])
    for nothing_signed in (["--key", str(tmp_path / "k.pem")], ["--new-key", "x", "--key", "k"]):
        with pytest.raises(SystemExit):
            main(["sign", *nothing_signed])
        assert "sign" in capsys.readouterr().err


def test_the_private_key_never_gets_the_public_ones_name(tmp_path):
    assert new_key(tmp_path / "release.pub") == tmp_path / "release.pub.pub"
    assert "PRIVATE" in (tmp_path / "release.pub").read_text()
    assert new_key(tmp_path / "release-1.0") == tmp_path / "release-1.0.pub"
    (tmp_path / "half.pub").touch()
    with pytest.raises(InputError, match="half.pub: is there already"):
        new_key(tmp_path / "half.pem")
    assert not (tmp_path / "half.pem").exists()


def test_a_predictor_that_travels_verifies_again(bundle, keys):
    private, public = keys
    sign_bundle(bundle, private)
    sent = pickle.dumps(Predictor(bundle, require_signature=public))
    pickle.loads(sent).close()
    shutil.copyfile(MANIFEST_OF_ANOTHER, bundle / MANIFEST)
    with pytest.raises(BundleError, match="signature is not by"):
        pickle.loads(sent)


def test_engines_can_ask_for_a_signature(bundle, keys):
    types = pytest.importorskip("pyspark.sql.types")
    frame = types.StructType([types.StructField("title", types.StringType())])
    private, public = keys
    for load in (Tagger, partial(tag_partitions, frame)):
        (bundle / SIGNATURE).unlink(missing_ok=True)
        with pytest.raises(BundleError, match="has no signature"):
            load(str(bundle), require_signature=str(public))
        sign_bundle(bundle, private)
        load(str(bundle), require_signature=str(public))


MANIFEST_OF_ANOTHER = default_bundle() / MANIFEST


def test_a_key_with_a_passphrase_or_of_another_kind_is_refused(bundle, tmp_path):
    form = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    locked, other = tmp_path / "locked.pem", tmp_path / "other.pem"
    options = (form.Encoding.PEM, form.PrivateFormat.PKCS8)
    secret = form.BestAvailableEncryption(b"secret")
    locked.write_bytes(ed25519.Ed25519PrivateKey.generate().private_bytes(*options, secret))
    plain = form.NoEncryption()
    other.write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(*options, plain))
    with pytest.raises(InputError, match=r"\(not such a key in PEM, or with a passphrase\)$"):
        sign_bundle(bundle, locked)
    with pytest.raises(InputError, match=r"is no Ed25519 key; make one: studytag sign --new-key"):
        sign_bundle(bundle, other)
    with pytest.raises(InputError, match=r"none.pem: cannot be used as a key \(No such file"):
        sign_bundle(bundle, tmp_path / "none.pem")


def test_where_nothing_can_be_written_it_is_said_in_one_line(bundle, keys, tmp_path):
    private, _ = keys
    with pytest.raises(InputError, match=r"none/k.pem: cannot be written \(No such file.*another"):
        new_key(tmp_path / "none" / "k.pem")
    (bundle / f"{MANIFEST}.sig").mkdir()
    with pytest.raises(InputError, match=r"json.sig: cannot be written \(Is a directory\)"):
        sign_bundle(bundle, private)


@pytest.mark.parametrize(
    "module",
    [
        "cryptography.hazmat.primitives.asymmetric.ed25519",
        "cryptography.hazmat.primitives.serialization",
        "cryptography.exceptions",
    ],
)
def test_without_cryptography_it_is_said_what_to_install(bundle, keys, module, monkeypatch):
    private, public = keys
    sign_bundle(bundle, private)
    monkeypatch.setitem(sys.modules, module, None)
    advice = re.escape("pip install 'studytag[sign]'")
    with pytest.raises(MissingDependencyError, match=advice):
        verify_signature(bundle, public)
    with pytest.raises(MissingDependencyError, match=advice):
        sign_bundle(bundle, private)
    if module != "cryptography.exceptions":
        with pytest.raises(MissingDependencyError, match=advice):
            new_key(bundle.parent / "another.pem")


def test_the_public_key_is_for_everyone_and_the_private_for_its_owner(keys):
    private, public = keys
    assert public == private.with_suffix(".pub")
    assert private.stat().st_mode & 0o777 == 0o600
    assert public.stat().st_mode & 0o777 == 0o644
    assert private.read_text().startswith("-----BEGIN PRIVATE KEY-----")
    assert public.read_text().startswith("-----BEGIN PUBLIC KEY-----")
