"""The public face: every name is there, comes lazily, and is the one that type checkers see."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from namespaces import NAMESPACES

import impindiff

STUB = Path(impindiff.__file__).with_suffix(".pyi")


NOT_THERE = "grids"


def declared() -> dict[str, str]:
    """Name and module of what the stub, which type checkers read, imports."""
    imports = [
        node
        for node in ast.parse(STUB.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and node.module
    ]
    return {a.name: f"impindiff.{node.module}" for node in imports for a in node.names}


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("name", declared())
def test_a_public_name_is_what_type_checkers_see(name: str):
    module = importlib.import_module(declared()[name])
    assert getattr(impindiff, name) is getattr(module, name)


def test_the_names_fit_on_a_page():
    assert set(impindiff.__all__) == {*declared(), *NAMESPACES}
    assert len(impindiff.__all__) == len(set(impindiff.__all__)) <= 60
    assert set(dir(impindiff)) == set(impindiff.__all__)


def test_every_name_is_public_where_it_comes_from():
    for name, module in declared().items():
        if not module.endswith("._errors"):
            assert name in importlib.import_module(module).__all__, (name, module)


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_namespace_has_all_of_its_kind(namespace: str):
    module = getattr(impindiff, namespace)
    for name in module.__all__:
        home = importlib.import_module(getattr(module, name).__module__.rpartition(".")[0])
        assert getattr(home, name) is getattr(module, name)
        assert name in home.__all__


@pytest.mark.parametrize(
    ("name", "home"),
    [
        ("Newton", "solvers"),
        ("SDIRK2", "steppers"),
        ("Multigrid", "preconditioners"),
        ("Optax", "optimisers"),
        ("Snapshots", "memory"),
        ("RunFolder", "runs"),
    ],
)
def test_names_of_version_0_1_are_found_with_a_warning(name: str, home: str):
    with pytest.warns(DeprecationWarning, match=rf"impindiff\.{home}\.{name}"):
        found = getattr(impindiff, name)
    assert found is getattr(importlib.import_module(f"impindiff.{home}"), name)


def test_star_imports_give_the_public_names():
    names: dict = {}
    exec("from impindiff import *", names)
    assert set(impindiff.__all__) <= set(names)


def test_another_name_is_no_attribute():
    with pytest.raises(AttributeError, match="No impindiff attribute grids"):
        _ = getattr(impindiff, NOT_THERE)
    assert not hasattr(impindiff, "_no_such_thing")


@pytest.mark.thorough
def test_importing_it_imports_next_to_nothing():
    done = python(
        "import sys, impindiff\n"
        "heavy = {'jax', 'numpy', 'xarray', 'equinox', 'orbax', 'matplotlib', 'pydantic'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "impindiff.InputError\n"
        "assert not heavy & set(sys.modules)\n"
        "impindiff.Grid\n"
        "assert 'matplotlib' not in sys.modules and 'orbax' not in sys.modules"
    )
    assert done.returncode == 0, done.stderr


def test_help_is_given_without_jax():
    done = python(
        "import sys\n"
        "sys.modules['jax'] = None\n"
        "sys.argv = ['impindiff', '--help']\n"
        "from impindiff.cli import main\n"
        "main()"
    )
    assert done.returncode == 0, done.stderr
    assert "forecast" in done.stdout


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "impindiff", "--help"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: " in done.stdout and "train" in done.stdout


def test_without_a_command_it_explains_itself():
    done = subprocess.run(
        [sys.executable, "-m", "impindiff"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode in (0, 2)
    assert "Usage: " in done.stdout + done.stderr
