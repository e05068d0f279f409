"""The files that make an installation agree with one another and with the source."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import impindiff

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIRED = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRA = {
    name: [Requirement(text) for text in texts]
    for name, texts in PROJECT["optional-dependencies"].items()
}
LOCK = [
    line
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
TARGETS = {"install", "demo", "test", "test-slow", "lint", "docs", "benchmark", "lock", "help"}


def locked() -> dict[str, str]:
    pairs = (line.split("==") for line in LOCK)
    return {canonicalize_name(name): version for name, version in pairs}


def test_the_lock_has_nothing_but_exact_versions():
    assert not [line for line in LOCK if not re.fullmatch(r"[\w.-]+==[\w.!+]+", line)]
    assert "impindiff" not in locked()


@pytest.mark.parametrize(
    "requirement",
    [*REQUIRED, *EXTRA["test"], *EXTRA["dev"], *EXTRA["docs"]],
    ids=lambda requirement: requirement.name,
)
def test_the_lock_lies_within_the_ranges(requirement: Requirement):
    version = locked()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version), "run `make lock`"


def test_every_range_has_a_lower_end():
    for requirement in [*REQUIRED, *(one for group in EXTRA.values() for one in group)]:
        assert any(part.operator == ">=" for part in requirement.specifier), requirement


def test_what_the_package_imports_is_required():
    required = {canonicalize_name(one.name) for one in REQUIRED}
    providers = importlib.metadata.packages_distributions()
    imported = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add((node.module or "").split(".")[0])
    foreign = imported - sys.stdlib_module_names - {"impindiff"}
    missing = {
        name
        for name in foreign
        if not required & {canonicalize_name(one) for one in providers.get(name, [name])}
    }
    assert not missing, f"add to the dependencies in pyproject.toml: {missing}"


def test_the_installed_package_is_this_one():
    assert importlib.metadata.version("impindiff") == PROJECT["version"]
    assert impindiff.__version__ == PROJECT["version"]
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="impindiff")
    assert script.value == PROJECT["scripts"]["impindiff"]


def test_the_command_starts():
    done = subprocess.run(
        [sys.executable, "-c", "from impindiff.cli import main; main()", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "doctor" in done.stdout


def test_types_and_licence_are_shipped():
    assert (ROOT / "src" / "impindiff" / "py.typed").is_file()
    assert PROJECT["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")


def test_continuous_integration_runs_the_tests():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text().splitlines()


@pytest.fixture
def make(tmp_path: Path):
    """Runs make in a folder that has only the Makefile and what it depends on."""
    if not shutil.which("make"):
        pytest.skip("make is not on this machine")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        # The tests may themselves run under make, whose flags are not meant for this one.
        environment = {k: v for k, v in os.environ.items() if k not in {"MAKEFLAGS", "MAKELEVEL"}}
        return subprocess.run(
            ["make", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    return run


def test_make_names_its_targets(make):
    listed = {line.split()[1] for line in make("help").stdout.splitlines()}
    assert listed >= TARGETS


def test_a_missing_python_is_named_with_the_way_out(make):
    done = make("install", "PYTHON=python0.1")
    assert done.returncode != 0
    assert "Python 3.11 or newer was not found (tried: python0.1)" in done.stderr
    assert "make install PYTHON=" in done.stderr


@pytest.mark.parametrize("path", ["Makefile", "pyproject.toml", "constraints.txt", ".ci/run"])
def test_no_package_host_and_no_machine_path(path: str):
    text = (ROOT / path).read_text()
    assert not re.search(r"https?://|index-url|file:|/home/|/root/", text)
