"""Every code block of the README and the docs runs."""

import contextlib
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import block_runner
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
    "solvers.md-4",
    "systems.md-3",
    "systems.md-4",
    "systems.md-5",
    "systems.md-7",
    "training.md-1",
}
# Blocks that take three and a half seconds or more.
_SECONDS = {
    "observations.md-3",
    "systems.md-1",
    "systems.md-6",
    "systems.md-8",
    "time.md-2",
    "time.md-3",
    "training.md-2",
}


def _blocks():
    for page in (_ROOT / "README.md", *sorted((_ROOT / "docs").glob("*.md"))):
        for number, match in enumerate(_BLOCK.finditer(page.read_text(encoding="utf-8")), start=1):
            name = f"{page.name}-{number}"
            marks = [pytest.mark.slow] * (name in _LONG)
            marks += [pytest.mark.thorough] * (name in _SECONDS)
            yield pytest.param(name, textwrap.dedent(match[2]), id=name, marks=marks)


# The README's example must keep the promise it makes: a useful forecast.
_PROMISE = """
if "scores" in globals():
    assert scores.fields["concentration"].relative_l1_percent[-1] < 1.0
"""


@pytest.fixture(scope="module")
def runners() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """A process for all blocks of the docs, and one for the README, each at a user's precision.

    The README's is compiled as for a user, too. The blocks of the docs are compiled as tests are,
    in less than half the time: they compile much and compute little.
    """
    with contextlib.ExitStack() as open_ones:

        @cache
        def start(is_as_for_a_user: bool) -> subprocess.Popen[str]:
            environment = dict(os.environ)
            if is_as_for_a_user:
                environment.pop("XLA_FLAGS", None)
            process = subprocess.Popen(
                [sys.executable, block_runner.__file__],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            open_ones.enter_context(process)
            assert process.stdin
            open_ones.callback(process.stdin.close)
            return process

        yield lambda name: start(name.startswith("README"))


@pytest.mark.parametrize("name, code", list(_blocks()))
def test_code_block_runs(
    name: str, code: str, runners: Callable[[str], subprocess.Popen[str]], tmp_path: Path
):
    """By itself: what another block named is not there."""
    runner = runners(name)
    assert runner.stdin and runner.stdout
    request = {"code": code + _PROMISE, "folder": str(tmp_path)}
    print(json.dumps(request), file=runner.stdin, flush=True)
    done = json.loads(runner.stdout.readline())
    assert not done["error"], done["error"]
    assert done["printed"].strip()


def test_links_lead_somewhere():
    for page in (_ROOT / "README.md", *(_ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), (page.name, target)


@pytest.mark.thorough
@pytest.mark.many
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
