"""A wheel that carries a bundle, so that a model has a name, a version and dependencies."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from studytag.errors import InputError, import_extra
from studytag.files import atomic_path
from studytag.inference.sources import PACKAGED
from studytag.manifest import CARD, MANIFEST, SIGNATURE, Manifest, load_manifest, write_manifest
from studytag.sharing.card import card_text
from studytag.version import __version__

_MODULE = '''"""A bundle for studytag: `Predictor.from_package("{module}")`, or `load()`."""

from typing import Any

from studytag import Predictor

__version__ = {version}


def load(**options: Any) -> Predictor:
    """The predictor of this bundle; the options are those of `Predictor.from_package`."""
    return Predictor.from_package(__name__, **options)
'''


def build_wheel(
    bundle: str | Path,
    name: str,
    version: str,
    output: str | Path,
    *,
    variant: str | None = None,
    license: str | None = None,
) -> Path:
    """Build a wheel that carries a bundle; nothing is downloaded.

    Args:
        bundle: The folder.
        name: Of the package, such as `studytag-dental`; it is imported with underscores.
        version: Of the package.
        output: The folder for the wheel.
        variant: Carry this variant alone (int8 is a quarter of the size); None carries all.
        license: The SPDX expression of the weights' licence, such as `CC-BY-4.0`.

    Returns:
        The wheel.

    Raises:
        BundleError: the bundle is incomplete or altered.
        InputError: it is no bundle, has no such variant, or name, version or licence are not valid.
        MissingDependencyError: build or setuptools is not installed.
    """
    build = import_extra("build", "package")
    import_extra("setuptools.build_meta", "package")
    name, version = _checked(name, version)
    license = _checked_license(license)
    manifest = load_manifest(bundle)
    manifest = _with_variant(Path(bundle), manifest, variant)
    with TemporaryDirectory(prefix="studytag-") as folder:
        project, built = Path(folder, "project"), Path(folder, "wheel")
        _write_project(Path(bundle), manifest, project, name, version, license)
        try:
            # The build backend that is installed here: no isolation, no network.
            builder = build.ProjectBuilder(project, runner=_run_quietly)
            wheel = Path(builder.build("wheel", built))
        except (build.BuildException, build.BuildBackendException) as error:
            raise InputError(f"the wheel cannot be built: {_reason(error)}") from error
        target = Path(output, wheel.name)
        with atomic_path(target) as temporary:
            shutil.copyfile(wheel, temporary)
    return target


def _checked(name: str, version: str) -> tuple[str, str]:
    """Both in canonical form."""
    utils = import_extra("packaging.utils", "package")
    versions = import_extra("packaging.version", "package")
    try:
        canonical = str(utils.canonicalize_name(name, validate=True))
    except utils.InvalidName as error:
        raise InputError(
            f"--name {name!r}: write letters, digits and -, such as studytag-dental"
        ) from error
    if canonical == "studytag" or not canonical.replace("-", "_").isidentifier():
        raise InputError(f"--name {name!r}: Python could not import it; take studytag-dental or so")
    try:
        return canonical, str(versions.Version(version))
    except versions.InvalidVersion as error:
        raise InputError(f"--version {version!r}: write a version such as 1.0") from error


def _checked_license(license: str | None) -> str | None:
    licenses = import_extra("packaging.licenses", "package")
    try:
        return license and str(licenses.canonicalize_license_expression(license))
    except licenses.InvalidLicenseExpression as error:
        raise InputError(
            f"--license {license!r}: write an SPDX expression such as CC-BY-4.0"
        ) from error


def _with_variant(bundle: Path, manifest: Manifest, variant: str | None) -> Manifest:
    """The manifest of what the wheel will hold."""
    offered = manifest.served_variants(bundle)
    if variant is None:
        return manifest
    if variant not in offered:
        raise InputError(f"{bundle} has no variant {variant!r}; choose from: {', '.join(offered)}")
    others = [name for name in manifest.variants if name != variant]
    left_out = {file for name in others for file in manifest.weights(name)}
    left_out -= set(manifest.weights(variant))  # variants may share a graph
    return replace(
        manifest,
        variants={variant: manifest.variants[variant]},
        files={name: digest for name, digest in manifest.files.items() if name not in left_out},
    )


def _write_project(
    bundle: Path, manifest: Manifest, project: Path, name: str, version: str, license: str | None
) -> None:
    """A project whose package holds the bundle: its manifest, and the files that this names."""
    module = name.replace("-", "_")
    package = project / module
    for file in manifest.files:
        (package / PACKAGED / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle / file, package / PACKAGED / file)
    if (bundle / CARD).is_file():
        shutil.copyfile(bundle / CARD, package / PACKAGED / CARD)
    write_manifest(package / PACKAGED, manifest)
    same = (package / PACKAGED / MANIFEST).read_bytes() == (bundle / MANIFEST).read_bytes()
    if same and (bundle / SIGNATURE).is_file():
        shutil.copyfile(bundle / SIGNATURE, package / PACKAGED / SIGNATURE)
    (package / "__init__.py").write_text(
        _MODULE.format(module=module, version=json.dumps(version)), encoding="utf-8"
    )
    (package / "py.typed").touch()
    usage = f'from studytag import Predictor\n\npredictor = Predictor.from_package("{module}")'
    card = card_text(name, manifest, f"`pip install {name}`, then:", usage)
    (project / "README.md").write_text(card, encoding="utf-8")
    (project / "pyproject.toml").write_text(_pyproject(name, version, license), encoding="utf-8")


def _pyproject(name: str, version: str, license: str | None) -> str:
    """JSON's strings and lists are TOML's too."""
    module = name.replace("-", "_")
    entries: dict[str, Any] = {
        "name": name,
        "version": version,
        "description": "A bundle for studytag: tags articles from title and abstract",
        "readme": "README.md",
        "requires-python": ">=3.10",
        # Bundles of this schema are read from this version on.
        "dependencies": [f"studytag>={__version__}"],
        **({} if license is None else {"license": license}),
    }
    lines = [
        "[build-system]",
        'requires = ["setuptools"]',
        'build-backend = "setuptools.build_meta"',
        "[project]",
        *(f"{key} = {json.dumps(value)}" for key, value in entries.items()),
        "[tool.setuptools]",
        f"packages = [{json.dumps(module)}]",
        "include-package-data = false",
        "[tool.setuptools.package-data]",
        f'{module} = ["py.typed", "{PACKAGED}/**/*"]',
    ]
    return "\n".join(lines) + "\n"


def _run_quietly(command: Any, cwd: Any = None, extra_environ: Any = None) -> None:
    """What `build` calls the backend with; its output is kept for the error message."""
    subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(extra_environ or {})},
        check=True,
        capture_output=True,
    )


def _reason(error: Exception) -> str:
    """The last error that the backend printed."""
    cause: Any = getattr(error, "exception", None) or error.__cause__ or error
    printed = getattr(cause, "stderr", None) or str(cause).encode()
    lines = [line for line in re.split(r"\r?\n", printed.decode(errors="replace")) if line.strip()]
    errors = [line for line in lines if "Error:" in line] or lines
    return errors[-1].strip() if errors else type(error).__name__
