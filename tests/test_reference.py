"""The reference has an entry for every public name, and its examples are those of this package."""

import ast
import inspect
import re
from pathlib import Path
from types import ModuleType

from namespaces import NAMESPACES

import impindiff as ipd
from impindiff import report, runs, systems

PAGE = (Path(__file__).parents[1] / "docs" / "reference.md").read_text(encoding="utf-8")


def is_interface(kind: ModuleType, name: str) -> bool:
    """Whether it is a base class or a type alias: those of a kind are explained on its page."""
    found = getattr(kind, name)
    return name.startswith("Abstract") or not (inspect.isclass(found) or callable(found))


def test_every_public_name_has_an_entry():
    first = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    listed = {name for cell in first for name in re.findall(r"`(\w+)`", cell)}
    kinds = [getattr(ipd, name) for name in NAMESPACES]
    named = {name for kind in kinds for name in kind.__all__ if not is_interface(kind, name)}
    missing = ((set(ipd.__all__) - set(NAMESPACES)) | named) - listed
    assert not missing
    homes = [*kinds, report, runs, systems]
    assert not [n for n in listed - set(ipd.__all__) if not any(hasattr(h, n) for h in homes)]


def test_examples_call_what_there_is():
    codes = [code for code in re.findall(r"`([^`]+)`", PAGE) if "ipd." in code]
    codes = [code for code in codes if not code.startswith(("import", "except", "help"))]
    assert len(codes) > 50
    for code in codes:
        calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
        for call in calls:
            if ast.unparse(call.func).startswith("ipd."):
                target = eval(ast.unparse(call.func), {"ipd": ipd})
                takes = inspect.signature(target).parameters
                for keyword in call.keywords:
                    accepts = keyword.arg in takes or any(
                        p.kind is p.VAR_KEYWORD for p in takes.values()
                    )
                    assert accepts, (code, keyword.arg)
