"""The doctor finds what is broken, names a remedy, and goes on."""

import importlib.metadata
import json
import os
import platform
import shutil
import sys
from pathlib import Path

import jax
import pytest

from impindiff.cli import _doctor_machine as machine, _doctor_software as software
from impindiff.cli._doctor import Diagnosis, diagnose, render
from impindiff.cli._doctor_finding import GIB, Finding, judge_amount


def about(topic: str, diagnosis: Diagnosis) -> list[Finding]:
    return [finding for finding in diagnosis.findings if finding.topic == topic]


def one(topic: str, diagnosis: Diagnosis) -> Finding:
    (finding,) = about(topic, diagnosis)
    return finding


def install_version(monkeypatch: pytest.MonkeyPatch, distribution: str, version: str | None):
    """Let a distribution seem to be installed in some version, or not at all."""
    true_version = importlib.metadata.version

    def seeming_version(name: str) -> str:
        if name != distribution:
            return true_version(name)
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", seeming_version)


def test_a_sound_installation_is_in_order(tmp_path: Path):
    diagnosis = diagnose(tmp_path)
    topics = {finding.topic for finding in diagnosis.findings}
    assert topics >= {"python", "packages", "devices", "precision", "gradient", "memory", "disk"}
    assert topics >= {"hdf5", "netcdf", "zarr"}
    assert [one for one in diagnosis.findings if one.status == "problem"] == []
    assert diagnosis.exit_status == 0
    assert list(tmp_path.iterdir()) == []


def test_the_diagnosis_is_one_json_object(tmp_path: Path):
    there_and_back = json.loads(json.dumps(diagnose(tmp_path).as_dict()))
    assert there_and_back["passed"] is True
    assert there_and_back["versions"]["jax"] == importlib.metadata.version("jax")
    assert set(there_and_back["findings"][0]) == {"topic", "status", "found", "remedy"}


def test_an_old_python_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(platform, "python_version", lambda: "3.9.1")
    diagnosis = diagnose(tmp_path)
    assert one("python", diagnosis).status == "problem"
    assert "3.9.1" in one("python", diagnosis).found
    assert diagnosis.exit_status == 2


@pytest.mark.parametrize(
    "distribution, version, status, found",
    [
        ("jax", "0.4.30", "problem", "jax is 0.4.30, supported is"),
        ("zarr", "2.18.0", "warning", "zarr is 2.18.0, supported is"),
        ("optax", None, "problem", "optax is not installed"),
    ],
)
def test_an_unfit_package_is_named(
    monkeypatch: pytest.MonkeyPatch, distribution: str, version: str | None, status: str, found: str
):
    install_version(monkeypatch, distribution, version)
    unfit, rest = software.check_packages()
    assert (unfit.status, rest.status) == (status, "ok")
    assert unfit.found.startswith(found)
    assert f'pip install "{distribution}' in unfit.remedy
    assert software.collect_versions()[distribution] == version


@pytest.mark.parametrize(
    "package, topics",
    [
        ("jax", ["packages", "jax"]),
        ("optax", ["packages"]),
        ("orbax.checkpoint", ["packages"]),
        ("psutil", ["packages", "memory"]),
        ("h5py", ["packages", "hdf5"]),
        ("xarray", ["packages", "netcdf", "zarr"]),
        ("packaging.requirements", ["packages"]),
    ],
)
def test_a_broken_package_is_found_and_the_rest_still_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str, topics: list[str]
):
    monkeypatch.setitem(sys.modules, package, None)
    diagnosis = diagnose(tmp_path)
    problems = [finding for finding in diagnosis.findings if finding.status == "problem"]
    assert set(topics) <= {finding.topic for finding in problems}
    assert all(finding.remedy for finding in problems)
    assert one("disk", diagnosis).status == "ok"
    assert f"{len(problems)} problem" in render(diagnosis)


def test_a_package_that_is_not_installed_as_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def nothing(name: str):
        raise importlib.metadata.PackageNotFoundError(name)

    for question in ("version", "requires", "metadata"):
        monkeypatch.setattr(importlib.metadata, question, nothing)
    diagnosis = diagnose(tmp_path)
    assert one("python", diagnosis).status == "problem"
    assert "make clean install" in one("packages", diagnosis).remedy


def test_devices_that_do_not_start(monkeypatch: pytest.MonkeyPatch):
    def fail():
        raise RuntimeError("Unable to initialize backend 'abacus'\nand more")

    monkeypatch.setenv("JAX_PLATFORMS", "abacus")
    monkeypatch.setattr(jax, "default_backend", fail)
    (finding,) = software.check_numerics()
    assert (finding.topic, finding.status) == ("devices", "problem")
    assert "JAX_PLATFORMS=abacus" in finding.found
    assert finding.found.endswith("RuntimeError: Unable to initialize backend 'abacus'")
    assert "unset" in finding.remedy


def test_an_idle_gpu_is_pointed_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    finding = next(software.check_numerics())
    assert finding.status == "warning"
    assert "[cuda]" in finding.remedy


def test_a_wrong_gradient_is_a_problem(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jax, "grad", lambda function: function)
    *_, finding = software.check_numerics()
    assert (finding.topic, finding.status) == ("gradient", "problem")


@pytest.mark.parametrize("amount, status", [(3, "ok"), (2, "ok"), (1, "warning"), (0, "problem")])
def test_amounts_are_judged(amount: int, status: str):
    assert judge_amount("disk", "", amount, 2, 1, "").status == status


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_a_control_group_limits_memory(tmp_path: Path, name: str):
    limit = tmp_path / name
    limit.parent.mkdir(exist_ok=True)
    limit.write_text(f"{GIB // 4}\n")
    (finding,) = machine.check_memory(tmp_path)
    assert finding.status == "problem"
    assert "limited to 0.2 GiB by the control group" in finding.found


@pytest.mark.parametrize("text", ["max", str(2**63 - 4096)])
def test_an_unlimited_control_group_is_not_mentioned(tmp_path: Path, text: str):
    (tmp_path / "memory.max").write_text(text)
    (finding,) = machine.check_memory(tmp_path)
    assert "control group" not in finding.found


def test_a_folder_that_is_not_there_or_not_writable(tmp_path: Path):
    (finding,) = machine.check_disk(tmp_path / "absent")
    assert finding.status == "problem"
    assert "No such file" in finding.found
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        (finding,) = machine.check_disk(tmp_path)
        assert "Permission denied" in finding.found


def test_a_file_that_comes_back_changed(monkeypatch: pytest.MonkeyPatch):
    import xarray

    monkeypatch.setattr(xarray, "load_dataset", lambda path, engine: xarray.Dataset())
    (finding,) = machine.check_netcdf()
    assert finding.status == "problem"


def test_remedies_stand_below_what_they_mend():
    findings = (Finding("disk", "warning", "little"), Finding("zarr", "problem", "broken", "mend"))
    lines = render(Diagnosis(findings, {})).splitlines()
    assert lines == [
        "warning  disk  little",
        "problem  zarr  broken",
        "               -> mend",
        "",
        "1 problem, 1 warning",
    ]
