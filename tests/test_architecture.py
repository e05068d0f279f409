"""The picture of the packages is drawn from their imports alone, and the same each time."""

import importlib.util
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).parents[1] / "docs" / "draw_architecture.py"
_FOUND = importlib.util.spec_from_file_location("draw_architecture", _SCRIPT)
assert _FOUND is not None and _FOUND.loader is not None
architecture = importlib.util.module_from_spec(_FOUND)
_FOUND.loader.exec_module(architecture)

FILES = {
    "__init__.py": "from toy.high import top",
    "_errors.py": "import json",
    "low/__init__.py": "from toy import _errors",
    "low/_part.py": "import toy.low\nfrom toy._errors import Wrong",
    "middle/__init__.py": "def late():\n    from toy.low import thing",
    "high/__init__.py": "import toy.middle\nfrom toy import low\nimport numpy",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        file = tmp_path / "toy" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "toy"


def test_imports_are_found_wherever_they_stand(folder: Path):
    assert architecture.read_graph(folder) == {
        "_errors": set(),
        "low": {"_errors"},
        "middle": {"low"},
        "high": {"middle", "low"},
    }


def test_a_package_stands_above_all_it_imports(folder: Path):
    rows = architecture.rows_of(architecture.read_graph(folder))
    assert rows == {"_errors": 0, "low": 1, "middle": 2, "high": 3}


def test_an_arrow_that_follows_from_others_is_left_out(folder: Path):
    assert architecture.reduced(architecture.read_graph(folder))["high"] == {"middle"}


def test_packages_that_import_each_other_are_named(folder: Path):
    (folder / "low" / "_other.py").write_text("from toy.middle import late")
    with pytest.raises(SystemExit, match="import each other: .*(low <- middle|middle <- low)"):
        architecture.draw(architecture.read_graph(folder))


def test_each_box_stands_in_its_row_and_none_overlaps(folder: Path):
    (folder / "aside").mkdir()
    (folder / "aside" / "__init__.py").write_text("import toy._errors")
    picture = architecture.draw(architecture.read_graph(folder))
    assert picture == architecture.draw(architecture.read_graph(folder))
    root = ElementTree.fromstring(picture)
    svg = "{http://www.w3.org/2000/svg}"
    names = [text.text for text in root.iter(f"{svg}text")]
    boxes = [box for box in root.iter(f"{svg}rect") if "rx" in box.keys()]  # noqa: SIM118
    height = {n: float(box.get("y", "")) for n, box in zip(names, boxes, strict=True)}
    assert height["high"] < height["middle"] < height["low"] == height["aside"] < height["_errors"]
    beside = sorted(
        (float(box.get("x", "")), float(box.get("width", "")))
        for box in boxes
        if float(box.get("y", "")) == height["low"]
    )
    assert beside[0][0] + beside[0][1] < beside[1][0]


def test_the_picture_of_impindiff_is_small():
    assert (
        len(architecture.draw(architecture.read_graph(architecture.ROOT / "src/impindiff"))) < 1e5
    )
