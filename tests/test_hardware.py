"""Cores, quotas and instructions, and the variant that follows from them."""

from __future__ import annotations

import os

import pytest

from studytag.hardware import available_cores, has_fast_int8, processor_name
from studytag.inference.session import choose_variant

here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def machine(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_cores_without_a_quota_are_those_of_the_affinity(tmp_path):
    assert available_cores(tmp_path) == here
    unlimited = machine(tmp_path, **{"sys__fs__cgroup__cpu.max": "max 100000\n"})
    assert available_cores(unlimited) == here


@pytest.mark.parametrize(
    "files",
    [
        {"sys__fs__cgroup__cpu.max": "50000 100000\n"},
        {
            "sys__fs__cgroup__cpu__cpu.cfs_quota_us": "100000\n",
            "sys__fs__cgroup__cpu__cpu.cfs_period_us": "100000\n",
        },
        {  # the quota is set on the parent of this process's own group
            "proc__self__cgroup": "0::/service/worker\n",
            "sys__fs__cgroup__service__cpu.max": "100000 100000\n",
            "sys__fs__cgroup__service__worker__cpu.max": "max 100000\n",
        },
    ],
)
def test_a_quota_of_one_core_is_kept(tmp_path, files):
    assert available_cores(machine(tmp_path, **files)) == 1


@pytest.mark.skipif(here < 2, reason="one core only")
def test_a_quota_of_one_and_a_half_cores_is_two(tmp_path):
    files = machine(tmp_path, **{"sys__fs__cgroup__cpu.max": "150000 100000\n"})
    assert available_cores(files) == 2


def test_an_unlimited_quota_of_version_1(tmp_path):
    files = machine(
        tmp_path,
        **{
            "sys__fs__cgroup__cpu__cpu.cfs_quota_us": "-1\n",
            "sys__fs__cgroup__cpu__cpu.cfs_period_us": "100000\n",
        },
    )
    assert available_cores(files) == here


@pytest.mark.parametrize(
    ("line", "fast"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_vnni", True),
        ("flags\t\t: fpu avx2 avx_vnni", True),
        ("Features\t: fp asimd asimddp", True),
        ("flags\t\t: fpu avx2", False),
        ("Features\t: fp asimd", False),
        ("", None),  # the system does not tell
    ],
)
def test_int8_instructions(tmp_path, monkeypatch, line, fast):
    monkeypatch.setattr("platform.system", lambda: "Linux")
    assert has_fast_int8(machine(tmp_path, proc__cpuinfo=f"processor\t: 0\n{line}\n")) is fast


@pytest.mark.parametrize(
    ("offered", "rates", "fast", "chosen", "reason"),
    [
        (["fp32", "int8"], {}, True, "int8", "has int8 instructions"),
        (["fp32", "int8"], {}, False, "int8", "also without int8 instructions"),
        (["fp32", "int8"], {}, None, "int8", "not measured here"),
        (["fp32", "int8"], {"fp32": 9, "int8": 5}, True, "fp32", "documents/s: fp32 9, int8 5"),
        (["fp32", "int8"], {"int8": 5}, True, "int8", "not measured here"),
        (["fp32", "int8-openvino"], {}, True, "fp32", "no int8 variant"),
        (["fp32"], {}, True, "fp32", "no other"),
        (["int8"], {}, False, "int8", "no other"),
    ],
)
def test_auto_variant(offered, rates, fast, chosen, reason):
    name, why = choose_variant(offered, rates, fast)
    assert name == chosen
    assert reason in why


def test_the_processor_is_told_from_others_of_its_name(tmp_path):
    lines = "cpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC\n"
    assert processor_name(machine(tmp_path, proc__cpuinfo=lines)) == (
        "AMD EPYC (cpu family 25, model 1)"
    )
