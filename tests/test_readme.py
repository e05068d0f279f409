"""Every code block of the README and the docs runs."""

import re
import textwrap
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^( *)```python\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def _blocks():
    for page in (_ROOT / "README.md", *sorted((_ROOT / "docs").glob("*.md"))):
        for number, match in enumerate(_BLOCK.finditer(page.read_text(encoding="utf-8")), start=1):
            yield pytest.param(textwrap.dedent(match[2]), id=f"{page.name}-{number}")


@pytest.mark.parametrize("code", list(_blocks()))
def test_code_block_runs(code, capsys):
    names: dict = {}
    exec(compile(code, "block", "exec"), names)
    assert capsys.readouterr().out.strip()
    if "scores" in names:
        # The README's example must keep the promise it makes: a useful forecast.
        assert names["scores"].fields["concentration"].relative_l1_percent[-1] < 1.0


def test_links_lead_somewhere():
    for page in (_ROOT / "README.md", *(_ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), (page.name, target)
