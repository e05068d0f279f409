"""Every code block of the README and the docs runs."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^( *)```python\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
# Blocks that train for longer than every run of the tests can bear.
_LONG = {
    "boundaries.md-4",
    "config.md-1",
    "forecasts.md-1",
    "memory.md-1",
    "observations.md-1",
    "solvers.md-1",
    "solvers.md-2",
    "solvers.md-3",
    "systems.md-3",
    "systems.md-4",
    "systems.md-5",
    "systems.md-7",
    "training.md-1",
}


def _blocks():
    for page in (_ROOT / "README.md", *sorted((_ROOT / "docs").glob("*.md"))):
        for number, match in enumerate(_BLOCK.finditer(page.read_text(encoding="utf-8")), start=1):
            name = f"{page.name}-{number}"
            marks = [pytest.mark.slow] * (name in _LONG)
            yield pytest.param(textwrap.dedent(match[2]), id=name, marks=marks)


# The README's example must keep the promise it makes: a useful forecast.
_PROMISE = """
if "scores" in globals():
    assert scores.fields["concentration"].relative_l1_percent[-1] < 1.0
"""


@pytest.mark.parametrize("code", list(_blocks()))
def test_code_block_runs(code, tmp_path):
    """By itself, at the user's own precision, compiled as for a user."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", code + _PROMISE],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_links_lead_somewhere():
    for page in (_ROOT / "README.md", *(_ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), (page.name, target)


@pytest.mark.parametrize(
    "page",
    (_ROOT / "README.md", *sorted((_ROOT / "docs").rglob("*.md"))),
    ids=lambda page: page.name,
)
def test_lines_of_prose_are_short(page):
    """Tables, code and pictures may be wider."""
    prose = re.sub(r"^( *)```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    lines = [one for one in prose.splitlines() if not one.startswith(("|", "![", "    "))]
    assert not [one for one in lines if len(one) > 100]
