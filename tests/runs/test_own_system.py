"""A run of the system on the page about configs is one like any other."""

import json
import re
import shutil
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from small_problem import make_tables
from typer.testing import CliRunner

from impindiff import InputError
from impindiff.cli._app import app
from impindiff.config import parse_config
from impindiff.data import open_dataset
from impindiff.runs import RunFolder
from impindiff.runs._user_code import check_same_code

PAGE = (Path(__file__).parents[2] / "docs" / "config.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[0]


def call(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, " ".join(result.stderr.replace("│", " ").split())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files, for a few epochs, and its data."""
    folder = tmp_path_factory.mktemp("own")
    few = re.sub(
        r"return \[ipd.Stage\(ipd.Adam.*", "return [ipd.Stage(ipd.Adam(), 2)]", block("python")
    )
    assert few != block("python")
    (folder / "column.py").write_text(few)
    quick = block("toml").replace("sdirk-2", "backward-euler")
    (folder / "column.toml").write_text(f'{quick}\n[solver]\nmethod = "dense-lu"\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(few, "column.py", "exec"), {"__name__": "__main__"})
    return folder


@pytest.fixture(scope="module")
def made(written: Path) -> Path:
    """The same with a run, which lies apart from the rest."""
    folder = written
    before = set(sys.modules), list(sys.path), list(sys.meta_path)
    status, _, err = call("train", folder / "column.toml", "--out", folder / "away" / "RUN")
    assert status == 0, err
    assert "column" not in sys.modules and before[1:] == (sys.path, sys.meta_path)
    return folder


@pytest.mark.thorough
def test_the_run_keeps_the_file_and_nothing_is_left_elsewhere(made: Path):
    run = made / "away" / "RUN"
    assert (run / "column.py").read_bytes() == (made / "column.py").read_bytes()
    code = json.loads((run / "provenance.json").read_text())["code"]
    assert list(code) == ["column.py"] and len(code["column.py"]) == 64
    assert not list(made.rglob("__pycache__"))


@pytest.mark.thorough
def test_the_run_works_without_the_file_it_was_made_from(made: Path, tmp_path: Path):
    run = shutil.copytree(made / "away" / "RUN", tmp_path / "RUN")
    data, out = made / "measured.nc", tmp_path / "forecast.nc"
    status, printed, err = call("evaluate", run, "--data", data, "--samples", "2", "--json")
    assert status == 0, err
    scores, summary = json.loads(printed), json.loads((run / "summary.json").read_text())
    assert scores == {key: summary[key] for key in ("fields", "latent", "samples")}
    assert set(scores["fields"]) == {"dissolved", "sorbed"}
    for errors in scores["fields"].values():
        assert set(errors) == {"time", "relative_l1_percent", "relative_l2_percent"}
        assert len(errors["time"]) == 9
        assert errors["relative_l1_percent"][0] < 1e-4 < errors["relative_l1_percent"][-1]
    assert set(scores["latent"]) == {"uptake", "release"}
    # Two epochs of a thousandth: the rate of release is what it started as, half the true one.
    assert scores["latent"]["release"]["relative_l2_percent"] == pytest.approx(50, abs=1)
    until = ("--until", 0.4, "--every", 0.2, "--out", out)
    assert call("forecast", run, "--initial", data, *until)[0] == 0
    assert open_dataset(out)["sorbed"].shape == (3, 3, 12)


@pytest.mark.thorough
def test_forecasts_hold_numbers_and_functions(made: Path):
    forecast = open_dataset(made / "away" / "RUN" / "forecast.nc")
    assert forecast["release"].shape == () and float(forecast["release_truth"]) == 1.0
    table = forecast["uptake"]
    assert table.dims == ("uptake_dissolved",)
    inputs = forecast["uptake_dissolved"].values
    assert (inputs[0], inputs[-1]) == (0.0, 1.0)
    exact = 2 * inputs / (0.3 + inputs)
    assert abs(forecast["uptake_truth"].values - exact).max() < 5e-3, "interpolated linearly"
    report = (made / "away" / "RUN" / "report.html").read_text()
    assert "A learned function" in report and "Learned numbers" in report


@pytest.mark.thorough
def test_a_changed_file_is_refused(made: Path, tmp_path: Path):
    run = shutil.copytree(made / "away" / "RUN", tmp_path / "RUN")
    shutil.copytree(made, tmp_path / "own", ignore=shutil.ignore_patterns("away"))
    changed = tmp_path / "own" / "column.py"
    changed.write_text(changed.read_text().replace("Diffusion(0.01)", "Diffusion(0.02)"))
    status, _, err = call("train", tmp_path / "own" / "column.toml", "--out", run, "--resume")
    assert status == 2 and "column.py is not what the run" in err
    shutil.copy(changed, run / "column.py")
    status, _, err = call("evaluate", run, "--data", made / "measured.nc")
    assert status == 2 and "RUN/column.py was changed since the run was begun" in err


@pytest.mark.parametrize(
    "files, refused",
    [
        ({"a.py": b"1", "b.py": b"2"}, ""),
        ({"a.py": b"1", "b.py": b"3"}, "b.py"),
        ({"a.py": b"1", "b.py": b"2", "c.py": b""}, "c.py"),
        ({"a.py": b"1"}, "b.py"),
    ],
    ids=["the same", "another", "one more", "one fewer"],
)
def test_a_run_goes_on_with_the_files_it_was_begun_with(tmp_path: Path, files: dict, refused: str):
    folder = RunFolder(tmp_path)
    code = {name: sha256(text).hexdigest() for name, text in (("a.py", b"1"), ("b.py", b"2"))}
    (tmp_path / "provenance.json").write_text(json.dumps({"data": {"sha256": ""}, "code": code}))
    config = parse_config(make_tables(), "it")
    config.code.files.update(files)
    if not refused:
        check_same_code(config, folder)
        return
    with pytest.raises(InputError, match=f"{refused} is not what the run in"):
        check_same_code(config, folder)


@pytest.mark.slow
@pytest.mark.parametrize("data", [True, False])
def test_its_gradient_is_certified_and_planned(made: Path, tmp_path: Path, data: bool):
    config = tmp_path / "column.toml"
    shutil.copy(made / "column.py", tmp_path)
    axis = '[[grid]]\nname = "x"\nlower = 0\nupper = 1\ncells = 12\nperiodic = false\n'
    text = (made / "column.toml").read_text()
    config.write_text(text.replace('file = "measured.nc"\n', "") + "\n" + axis)
    options = ("--data", made / "measured.nc") if data else ()
    status, out, err = call("check-gradient", config, "--directions", 1, *options)
    assert status == 0, out + err
    status, out, err = call("plan", config, "--json", *options)
    assert status == 0 and json.loads(out)["state_bytes"] == 2 * 2 * 12 * 4, err


@pytest.mark.many
@pytest.mark.parametrize(
    "change, said",
    [
        (('"sorbed"]', '"sorbed", "lost"]'), "there is no variable 'lost'"),
        (('["dissolved", "sorbed"]', '["dissolved"]'), "the fields 'dissolved', 'sorbed', but"),
        (("column:make_system", "colum:make_system"), "there is no colum.py in"),
        (("column:make_stages", "column:make_stage"), "did you mean 'make_stages'?"),
        (("column:make_stages", "column:make_system"), "what it may name are system, grid"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    written: Path, tmp_path: Path, change: tuple[str, str], said: str
):
    config = written / "changed.toml"
    config.write_text((written / "column.toml").read_text().replace(*change))
    status, out, err = call("train", config, "--out", tmp_path / "RUN")
    assert (status, out) == (2, "") and said in err
    assert not (tmp_path / "RUN").exists()
