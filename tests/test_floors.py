"""Which module may know which.

Every package stands on a floor and imports from strictly lower floors only, or from within itself;
what it takes from another package it takes from that package's face, `impindiff.<package>`. Six
refinements of the design: `coefficients`, which terms hold and latents are, stands beneath both;
`forecast` stands beside `train`, since an old run is forecast from without the training code;
`runs`, which carries out what a config says, stands above `config`; `benchmark`, whose scripts
measure all of these, stands beside it; and `cli` stands above, as commands are made from them and
never the other way round. What the config of a built-in case names is loaded as a user's own file
is, and like one it imports `impindiff` and nothing of its packages. The top-level
namespaces, such as `impindiff.solvers`, and
`impindiff/__init__.py` stand above all.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from namespaces import NAMESPACES

SOURCE = Path(__file__).parents[1] / "src" / "impindiff"

FLOORS = {
    "_errors": 0,
    "_files": 0,
    "_types": 0,
    "_dates": 1,
    "grid": 1,
    "linear": 1,
    "coefficients": 2,
    "precondition": 2,
    "data": 3,
    "implicit": 3,
    "latent": 3,
    "terms": 3,
    "integrate": 4,
    "observe": 4,
    "rollout": 5,
    "systems": 6,
    "forecast": 7,
    "train": 7,
    "cases": 8,
    "report": 8,
    "config": 9,
    "benchmark": 10,
    "runs": 10,
    "cli": 11,
    "__main__": 12,
    **dict.fromkeys(NAMESPACES, 12),
    "": 13,  # impindiff/__init__.py
}


MOST_LINES = 450

# The implicit layer and what is below it know residuals and linear algebra, never physics or data:
# besides the floors below them, they import these and the standard library.
SOLVERS = {"linear", "precondition", "implicit"}
SOLVERS_NEED = {"equinox", "jax", "jaxtyping", "lineax", "numpy"}
# Of a cell or a step the implicit layer knows nothing: of our packages it imports these only.
IMPLICIT_KNOWS = {"_errors", "_types", "linear", "precondition", "implicit"}


def read_package() -> dict[str, str]:
    """The source of every module, by dotted name; a package's face has the package's name."""
    sources = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = ("impindiff", *path.relative_to(SOURCE).with_suffix("").parts)
        sources[".".join(parts).removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return sources


def package_of(module: str) -> str:
    """The package a module belongs to; for modules at the top level their own name."""
    return (module.split(".") + [""])[1]


def imported(module: str, tree: ast.Module, faces: set[str]) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that a module imports, wherever in it the import stands.

    `from impindiff import x` names the module `impindiff.x` where there is one, else the top level.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                # A face is itself the folder that a single dot means.
                climb = node.level - (module in faces)
                folder = module.split(".")[: len(module.split(".")) - climb]
                base = ".".join([*folder, base]).rstrip(".")
            for alias in node.names:
                name = f"{base}.{alias.name}"
                is_module = base == "impindiff" and alias.name in FLOORS
                is_private = base.startswith("impindiff.") and alias.name.startswith("_")
                yield node.lineno, name if is_module or is_private else base
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = ast.unparse(node.func)
            if function.endswith(("import_module", "__import__")):
                yield node.lineno, str(node.args[0].value)


def is_a_users(module: str) -> bool:
    """Whether it is the Python that a built-in case's config names, as a user's own would."""
    return module.startswith("impindiff.cases.") and module.count(".") == 3


def check_import(module: str, target: str) -> str | None:
    """What is wrong with one import, if anything is."""
    package, other = package_of(module), package_of(target)
    if target == "jax._src" or target.startswith("jax._src."):
        return f"imports {target}: JAX's private modules change without notice"
    if is_a_users(module):
        inside = target.rpartition(".")[0] == module.rpartition(".")[0] or target in module
        of_a_package = target.count(".") > 0 and package_of(target) not in NAMESPACES
        if target.split(".")[0] == "impindiff" and of_a_package and not inside:
            return f"imports {target}: a case is written as a user would, from public names"
        return None
    if target.split(".")[0] != "impindiff":
        foreign = target.split(".")[0]
        if package in SOLVERS and foreign not in SOLVERS_NEED | sys.stdlib_module_names:
            return f"imports {foreign}: the implicit layer knows residuals only"
        return None
    if package == other:
        return None
    if package == "implicit" and other not in IMPLICIT_KNOWS:
        return f"imports {target}: the implicit layer knows residuals only"
    if other not in FLOORS:
        return f"imports {target}, which has no floor: give it one in FLOORS"
    if FLOORS[other] >= FLOORS[package]:
        return (
            f"(floor {FLOORS[package]}) imports {target} (floor {FLOORS[other]}): "
            "only lower floors may be imported"
        )
    if target.count(".") > 1:
        return f"imports {target}: take it from the package's face, impindiff.{other}"
    return None


def check_module(module: str, source: str, faces: set[str]) -> Iterator[str]:
    """All that is wrong with one module, a sentence each."""
    tree = ast.parse(source)
    if package_of(module) not in FLOORS:
        yield f"{module} has no floor: give it one in FLOORS"
        return
    if not ast.get_docstring(tree):
        yield f"{module} has no docstring: say what idea lives there"
    if (num_lines := len(source.splitlines())) > MOST_LINES:
        yield f"{module} has {num_lines} lines, {MOST_LINES} are allowed: one idea a file"
    for line, target in imported(module, tree, faces):
        if problem := check_import(module, target):
            yield f"{module}, line {line}: {problem}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            yield f"{module}, line {node.lineno}: an assert is no message; raise an error"
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "jax._src":
            yield f"{module}, line {node.lineno}: uses jax._src, which changes without notice"


def violations(sources: dict[str, str], faces: set[str]) -> list[str]:
    return [found for name in sources for found in check_module(name, sources[name], faces)]


def faces_of_package() -> set[str]:
    folders = [path.parent for path in SOURCE.rglob("__init__.py")]
    return {".".join(("impindiff", *path.relative_to(SOURCE).parts)) for path in folders}


def test_the_package_keeps_to_its_floors():
    found = violations(read_package(), faces_of_package())
    assert not found, "\n" + "\n".join(found)


def test_every_module_but_the_faces_is_private():
    ours = {name for name in read_package() if not is_a_users(name)}
    inner = {name.split(".")[-1] for name in ours - faces_of_package()}
    assert {name for name in inner if not name.startswith("_")} == set(NAMESPACES)


def test_a_namespace_has_no_code_of_its_own():
    for name in NAMESPACES:
        body = ast.parse((SOURCE / f"{name}.py").read_text(encoding="utf-8")).body
        assert {type(node) for node in body} == {ast.Expr, ast.ImportFrom, ast.Assign}, name


FACES = {"impindiff", "impindiff.grid", "impindiff.terms", "impindiff.implicit", "impindiff.cli"}


@pytest.mark.parametrize(
    "module, statement, complaint",
    [
        ("impindiff.grid._grid", "from impindiff.terms import Diffusion", "only lower floors"),
        ("impindiff.grid._grid", "import impindiff.train", "only lower floors"),
        ("impindiff.grid._grid", "from impindiff import terms", "only lower floors"),
        ("impindiff.grid._grid", "import impindiff as ipd", "only lower floors"),
        ("impindiff.grid._grid", "from impindiff import Grid", "only lower floors"),
        ("impindiff.grid._grid", "from ..terms import Diffusion", "only lower floors"),
        ("impindiff.grid", "from .. import terms", "only lower floors"),
        ("impindiff.config._model", "from impindiff.cli import main", "only lower floors"),
        ("impindiff.terms._a", "from impindiff.latent import Siren", "only lower floors"),
        ("impindiff.implicit._root", "from impindiff.grid import Grid", "residuals only"),
        ("impindiff.linear._krylov", "from impindiff.grid import Grid", "only lower floors"),
        ("impindiff.linear._krylov", "import xarray", "residuals only"),
        ("impindiff.implicit._root", "import xarray", "residuals only"),
        ("impindiff.terms._a", "def f():\n    from impindiff.cli import main", "only lower floors"),
        (
            "impindiff.terms._a",
            "import typing\nif typing.TYPE_CHECKING:\n    from impindiff.cli import main",
            "only lower floors",
        ),
        (
            "impindiff.terms._a",
            "import importlib\nimportlib.import_module('impindiff.cli')",
            "only lower floors",
        ),
        ("impindiff.terms._a", "from impindiff.grid._grid import Grid", "the package's face"),
        ("impindiff.terms._a", "from impindiff.grid import _grid", "the package's face"),
        ("impindiff.terms._a", "from ..grid._grid import Grid", "the package's face"),
        ("impindiff", "import impindiff.grid._grid", "the package's face"),
        ("impindiff.terms._a", "from impindiff.shed import tool", "has no floor"),
        ("impindiff._provenance", "", "has no floor"),
        ("impindiff.terms._a", "from jax._src import core", "without notice"),
        ("impindiff.terms._a", "import jax._src.core", "without notice"),
        ("impindiff.terms._a", "import jax\njax._src.core", "without notice"),
        ("impindiff.terms._a", "assert True", "no message"),
        ("impindiff.terms._a", "\n" * (MOST_LINES + 1), "lines"),
    ],
)
def test_an_offence_is_found(module: str, statement: str, complaint: str):
    found = violations({module: f'"""A module."""\n{statement}\n'}, FACES)
    assert len(found) == 1 and complaint in found[0], found


def test_a_module_without_a_docstring_is_found():
    assert "no docstring" in violations({"impindiff.grid._grid": "import jax\n"}, FACES)[0]


@pytest.mark.parametrize(
    "module, statement",
    [
        ("impindiff.terms._a", "from impindiff.grid import Grid"),
        ("impindiff.terms._a", "from impindiff import grid"),
        ("impindiff.terms._a", "from impindiff._types import State"),
        ("impindiff.terms._a", "from impindiff.terms._b import Term"),
        ("impindiff.terms", "from ._a import Term"),
        ("impindiff.cli._run", "from impindiff.config import load"),
        ("impindiff", "from impindiff.cli import main"),
        ("impindiff.implicit._root", "import jax.numpy as jnp\nfrom impindiff import _types"),
    ],
)
def test_what_is_in_order_is_left_alone(module: str, statement: str):
    assert violations({module: f'"""A module."""\n{statement}\n'}, FACES) == []
