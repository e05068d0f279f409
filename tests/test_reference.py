"""The reference has an entry for every public name, and its examples are those of this package."""

import ast
import inspect
import re
from pathlib import Path

import impindiff as ipd

PAGE = (Path(__file__).parents[1] / "docs" / "reference.md").read_text(encoding="utf-8")


def test_every_public_name_has_an_entry():
    first = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    listed = {name for cell in first for name in re.findall(r"`(\w+)`", cell)}
    assert listed == set(ipd.__all__)


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
