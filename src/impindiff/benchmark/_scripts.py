"""The scripts of `benchmarks/`: where they lie, what each measures, how one is loaded.

They are no part of the package, since what they measure is the package as its users have it. A
wheel carries them beside this module; a checkout has them in its own folder.
"""

import ast
import difflib
import importlib.util
from pathlib import Path
from types import ModuleType

from impindiff._errors import InputError

_SHIPPED = Path(__file__).parent / "scripts"
_IN_CHECKOUT = Path(__file__).parents[3] / "benchmarks"
FOLDER = _SHIPPED if _SHIPPED.is_dir() else _IN_CHECKOUT


def list_benchmarks() -> dict[str, str]:
    """What can be measured: name and first line of every script, none of which is run.

    Raises: InputError where the scripts are missing.
    """
    found = {}
    for path in sorted(FOLDER.glob("[!_]*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        found[path.stem] = (text or "").partition("\n")[0]
    if not found:
        raise InputError(
            f"{FOLDER} holds no benchmarks: install the package anew, or keep the folder "
            "'benchmarks' beside 'src'."
        )
    return found


def load_benchmark(name: str) -> ModuleType:
    """The script of that name, as a module.

    Raises: InputError for another name.
    """
    names = list_benchmarks()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(f"there is no benchmark {name!r}; allowed: {', '.join(names)}.{hint}")
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    if spec is None or spec.loader is None:
        raise InputError(f"{FOLDER / name}.py cannot be loaded.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
