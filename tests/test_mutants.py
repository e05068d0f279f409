"""The table of small mistakes fits the source: each can be made, and changes what is executed."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from mistakes import SOURCE, Mutation
from mutations import MUTATIONS

TESTS = Path(__file__).parent


def test_every_text_stands_exactly_once():
    assert not [mutation.misfit for mutation in MUTATIONS if mutation.misfit]


def test_every_name_is_its_own():
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)


def test_every_package_has_some():
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert {mutation.file.partition("/")[0] for mutation in MUTATIONS} >= packages


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_tests_that_ought_to_see_it_are_there(mutation: Mutation):
    files = [TESTS.parent / part for part in mutation.selection if part.startswith("tests/")]
    content = "".join(file.read_text(encoding="utf-8") for file in files)
    named = set(mutation.tests.partition(" -k ")[2].split()) - {"and", "or", "not"}
    assert files and not [name for name in named if name not in content]


@cache
def meaning(file: str) -> str:
    return ast.dump(ast.parse((SOURCE / file).read_text(encoding="utf-8")))


@pytest.mark.many
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_it_is_python_and_does_something_else(mutation: Mutation, tmp_path: Path):
    """Neither a comment nor a blank is changed alone."""
    copy = tmp_path / mutation.file
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes((SOURCE / mutation.file).read_bytes())
    mutation.apply(tmp_path)
    assert ast.dump(ast.parse(copy.read_text(encoding="utf-8"))) != meaning(mutation.file)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"text": "import"}, r"a mistake: 'import' stands \d+ times in grid/_axis.py: give a text"),
        ({"text": "no such text"}, "'no such text' stands 0 times"),
        ({"file": "grid/_lost.py"}, "there is no file grid/_lost.py: say where"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, str], said: str):
    some = Mutation("a mistake", "grid/_axis.py", "self.upper - self.lower", "0", "grid")
    assert not some.misfit
    assert re.search(said, some._replace(**changes).misfit)


def test_tests_are_chosen_by_file_and_by_name():
    two = Mutation("", "", "", "", "grid/test_axis.py grid/test_grid.py -k ring or axis")
    assert two.selection == [
        "tests/grid/test_axis.py",
        "tests/grid/test_grid.py",
        "-k",
        "ring or axis",
    ]
