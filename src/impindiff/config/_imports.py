"""Which modules a file may import, at its top or within its functions, read from its source."""

import ast
import sys
from collections.abc import Iterator
from importlib.util import resolve_name
from types import ModuleType


def imported_names(source: bytes, module: str, *, is_package: bool) -> Iterator[str]:
    """Full names of all modules that import statements name, and of the packages around them.

    Some of them may be no modules: `from laws import k` may mean a module `laws.k`.

    Args:
        source: of the file.
        module: its full name.
        is_package: whether it is an `__init__.py`.
    """
    package = module if is_package else module.rpartition(".")[0]
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return  # whoever imports it is told so
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            within = "." * node.level + (node.module or "")
            try:
                base = resolve_name(within, package)
            except ImportError:
                continue  # beyond the folder: importing it says so
            found = [base, *(f"{base}.{each.name}" for each in node.names)]
        else:
            continue
        for name in found:
            parts = name.split(".")
            yield from (".".join(parts[: count + 1]) for count in range(len(parts)))


def taken(names: set[str]) -> dict[str, ModuleType]:
    """The loaded modules of these names and those inside them, taken out of `sys.modules`."""
    found = [name for name in sys.modules if name.partition(".")[0] in names]
    return {name: sys.modules.pop(name) for name in found}
