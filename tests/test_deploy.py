"""The container, the unit and the manifests: as their own checkers see them, and our parser."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from documentation import REPOSITORY

from studytag.cli import serve

DOCKERFILE = REPOSITORY / "infer" / "Dockerfile"
UNIT = REPOSITORY / "infer" / "studytag.service"
CLUSTERS = REPOSITORY / "infer" / "clusters"
SERVICE = CLUSTERS / "kubernetes-service.yaml"
SCRIPTS = Path(sysconfig.get_path("scripts"))


def resources(path: Path) -> dict[str, dict]:
    return {each["kind"]: each for each in yaml.safe_load_all(path.read_text(encoding="utf-8"))}


def instruction(name: str) -> str:
    """The last of its kind in the Dockerfile."""
    return re.findall(rf"^{name} (.*)$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)[-1]


def start_command() -> list[str]:
    return shlex.split(re.search(r"^ExecStart=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE)[1])


def container() -> dict:
    return resources(SERVICE)["Deployment"]["spec"]["template"]["spec"]["containers"][0]


def parsed(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    serve.add_arguments(parser)
    return parser.parse_args(words)


def test_the_dockerfile_has_no_fault_that_hadolint_knows():
    subprocess.run([SCRIPTS / "hadolint", DOCKERFILE], check=True)


def test_the_container_serves_others_with_a_token_and_without_root():
    assert json.loads(instruction("ENTRYPOINT")) == ["studytag", "serve"]
    options = parsed(json.loads(instruction("CMD")))
    assert (options.host, str(options.state)) == ("0.0.0.0", "/data")
    assert options.token_file is not None
    assert int(instruction("USER").partition(":")[0]) > 0
    assert f":{options.port}/" in instruction("HEALTHCHECK")
    assert int(instruction("EXPOSE")) == options.port


def test_the_image_is_built_from_what_the_wheel_needs():
    kept = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text(encoding="utf-8")
    for line in re.findall(
        r"^COPY (?!--from)(.*) \S+$", DOCKERFILE.read_text("utf-8"), re.MULTILINE
    ):
        for name in line.split():
            assert (REPOSITORY / name).exists()
            assert f"!{name}\n" in kept


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_takes_the_unit(tmp_path):
    # The program of the unit need not be installed here.
    text = UNIT.read_text(encoding="utf-8").replace(start_command()[0], "/bin/true")
    (tmp_path / UNIT.name).write_text(text, encoding="utf-8")
    command = ["systemd-analyze", "verify", tmp_path / UNIT.name]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    assert UNIT.name not in ended.stderr


def test_the_unit_serves_its_own_machine():
    program, command, *words = start_command()
    assert (Path(program).name, command) == ("studytag", "serve")
    assert parsed(words).host == "127.0.0.1"


@pytest.mark.parametrize("path", sorted(CLUSTERS.glob("*.yaml")), ids=lambda path: path.name)
def test_kubernetes_takes_the_manifest(path):
    for resource in resources(path).values():
        kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)


def test_the_pod_has_probes_limits_and_few_rights():
    pod = container()
    options = parsed(pod["args"])
    mounts = {each["mountPath"] for each in pod["volumeMounts"]}
    assert {str(options.state), str(options.token_file.parent)} < mounts
    assert {port["containerPort"] for port in pod["ports"]} == {options.port}
    assert pod["resources"]["limits"].keys() == {"cpu", "memory"}
    assert pod["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert pod[probe]["httpGet"]["path"].startswith("/v2/health/")
