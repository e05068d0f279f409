"""What each command does, prints and answers, run within the test's own process."""

import dataclasses
import json
import os
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from small_problem import losses, make_dataset, make_tables, save, write_problem
from typer.testing import CliRunner, Result

from impindiff import CASES, Grid, InputError
from impindiff.cli._app import app
from impindiff.config import build_system, load_config
from impindiff.data import open_dataset
from impindiff.runs import RunFolder

NAME = "advection-diffusion-steady"


def call(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, (result.exit_code, result.output, result.exception)
    if status == 0:
        assert result.stderr == ""
    return result


def complaint(*arguments: object, status: int = 2) -> str:
    result = call(*arguments, status=status)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.replace("│", " ").split())


@pytest.fixture
def small_case(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """In the place of the built-in case, one that takes no time; a record of what was generated."""
    generated = []

    def generate(samples: int, seed: int) -> xr.Dataset:
        generated.append((samples, seed))
        data = make_dataset(num_samples=samples)
        data["concentration"].values[:] *= 1 + seed
        return data

    stages = {n: [{"optimiser": "adam", "epochs": n}] for n in (3, 4)}
    changes = {
        "quick": make_tables({"training.stages": stages[3]}),
        "paper": make_tables({"training.stages": stages[4]}),
    }
    case = dataclasses.replace(CASES[NAME], generate=generate, changes=changes)
    monkeypatch.setitem(CASES, NAME, case)
    return generated


def test_cases_are_listed_a_line_each():
    lines = call("cases").stdout.splitlines()
    assert len(lines) == len(CASES)
    assert lines[0].startswith(f"{NAME}  ") and "paper, quick" in lines[0]


def test_the_files_of_a_case_are_written_to_be_changed(tmp_path: Path):
    out = tmp_path / "mine"
    said = call("cases", "advection-diffusion-dynamic", "--out", out).stdout
    assert sorted(file.name for file in out.iterdir()) == ["config.toml", "system.py"]
    assert "impindiff train" in said
    config = load_config(out / "config.toml", ["system.options.conditioning=film"])
    grid = Grid.uniform((8, 8), ((-1.0, 1.0), (0.0, 1.0)), periodic=True)
    assert not build_system(config, grid).latents()
    wrong = load_config(out / "config.toml", ["system.options.conditioning=none"])
    with pytest.raises(InputError, match="'spectral', 'separable', 'film', 'hypernetwork'"):
        build_system(wrong, grid)
    assert "new or empty" in complaint("cases", "advection-diffusion-dynamic", "--out", out)
    assert "go together" in complaint("cases", "--out", out)


def test_help_names_every_command():
    text = call("--help").stdout
    for name in ("cases", "run", "generate", "train", "forecast", "evaluate", "report", "doctor"):
        assert name in text
        assert "Usage" in call(name, "--help").stdout


@pytest.mark.thorough
def test_run_goes_from_nothing_to_a_report(small_case, tmp_path: Path):
    out = tmp_path / "my run"
    lines = call("run", NAME, "--out", out).stdout.splitlines()
    assert small_case == [(10, 0)]
    assert [line.split()[0] for line in lines] == ["Learned", "Forecast", "Look"]
    assert "advection_x (relative L2 error" in lines[0] and "2 samples at t = 0.1" in lines[0]
    assert "concentration of 2 unseen samples to t = 0.2" in lines[1]
    assert str(out / "report.html") in lines[2]
    folder = RunFolder(out)
    assert folder.config().data.file == "data.nc"
    assert folder.read_json("summary.json")["epochs"] == 3
    assert folder.read_json("provenance.json")["seed"] == 0


@pytest.mark.slow
def test_run_heeds_preset_and_seed(small_case, tmp_path: Path):
    call("run", NAME, "--out", tmp_path / "a", "--preset", "paper", "--seed", 1)
    call("run", NAME, "--out", tmp_path / "b", "--preset", "quick", "--seed", 2)
    assert small_case == [(10, 1), (10, 2)]
    first, second = (RunFolder(tmp_path / name) for name in "ab")
    assert (first.config().seed, second.config().seed) == (1, 2)
    assert [f.read_json("summary.json")["epochs"] for f in (first, second)] == [4, 3]
    assert [f.read_json("provenance.json")["seed"] for f in (first, second)] == [1, 2]
    # The loss is relative to the data's size, so that it tells the networks apart.
    assert losses(first.path)[0][2] != pytest.approx(losses(second.path)[0][2], rel=1e-3)


@pytest.mark.thorough
def test_run_numbers_its_folders(small_case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        call("run", NAME)
        assert (tmp_path / "runs" / f"{NAME}-quick-00{number}" / "report.html").is_file()


@pytest.mark.thorough
def test_generate_writes_data(small_case, tmp_path: Path):
    for suffix in ("nc", "zarr"):
        out = tmp_path / f"a b.{suffix}"
        result = call("generate", NAME, "--out", out, "--samples", 3, "--seed", 4)
        assert result.stdout == f"{out}: 3 samples\n"
        assert open_dataset(out).sizes["sample"] == 3
    assert small_case == [(3, 4), (3, 4)]


@pytest.mark.parametrize(
    "options, message",
    [
        (["--out", "taken.nc"], "exists already"),
        (["--out", "missing/a.nc"], "there is no folder 'missing'"),
        (["--out", "a.csv"], "the name ends in '.csv'"),
        (["--out", "taken.nc/a.nc"], "no folder 'taken.nc'"),
        (["--out", "a.nc", "--samples", "0"], "greater than or equal to 1"),
        (["--out", "a.nc", "--seed", "-1"], "greater than or equal to 0"),
        (["--out", "a.nc", "--seed", str(2**32)], "less than or equal to 4294967295"),
        ([], "Missing option '--out'"),
    ],
)
def test_generate_refuses_before_it_computes(
    small_case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
):
    monkeypatch.chdir(tmp_path)
    Path("taken.nc").write_text("")
    assert message in complaint("generate", NAME, *options)
    assert small_case == []
    assert os.listdir() == ["taken.nc"]


def test_a_case_that_does_not_exist(tmp_path: Path):
    for command in (["run"], ["generate", "--out", tmp_path / "a.nc"]):
        assert f"Did you mean '{NAME}'?" in complaint(*command, "advection-diffusion")
    assert "'slow' is not one of 'quick', 'paper'" in complaint("run", NAME, "--preset", "slow")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("path", "program"),
    [("bin/impindiff", "impindiff"), ("x/impindiff/__main__.py", "python -m impindiff")],
)
def test_train_writes_a_run(
    finished: Path, monkeypatch: pytest.MonkeyPatch, path: str, program: str
):
    monkeypatch.chdir(finished)
    given = ["train", "problem.toml", "--data", "data.nc", "--out", "other run"]
    monkeypatch.setattr(sys, "argv", [path, *given])
    call(*given)
    assert losses(Path("other run")) == losses(Path("run"))
    made = RunFolder(Path("other run")).read_json("provenance.json")
    assert made["command"] == f"{program} train problem.toml --data data.nc --out 'other run'"
    assert RunFolder(Path("other run")).config().data.file == str(finished / "data.nc")


@pytest.mark.thorough
def test_train_finds_the_data_that_its_config_names(finished: Path, tmp_path: Path, monkeypatch):
    (finished / "sub").mkdir()
    (finished / "data.nc").rename(finished / "sub" / "d ä.nc")
    config = finished / "problem.toml"
    text = config.read_text().replace("[data]", '[data]\nfile = "sub/d ä.nc"')
    config.write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    call("train", os.path.relpath(config), "--out", "r")
    assert losses(tmp_path / "r") == losses(finished / "run")
    call("train", tmp_path / "r" / "config.toml", "--out", "again")
    assert losses(tmp_path / "again") == losses(finished / "run")


@pytest.mark.thorough
def test_train_refuses_what_does_not_fit(finished: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(finished)
    given = ["train", "problem.toml", "--data", "data.nc"]
    assert "problem.toml names no data file" in complaint("train", "problem.toml")
    assert "--resume needs --out" in complaint(*given, "--resume")
    assert "run already holds a run" in complaint(*given, "--out", "run")
    assert "not empty and holds no run" in complaint(*given, "--out", ".")
    assert "is a file, not a folder" in complaint(*given, "--out", "data.nc")
    assert "no such config file" in complaint("train", "nothing.toml", "--data", "data.nc")
    assert "no such file" in complaint("train", "problem.toml", "--data", "nothing.nc")
    assert "cannot be written" in complaint(*given, "--out", "/proc/nowhere/run")
    write_problem(tmp_path, {"training.stages.0.learning_rat": 1.0})
    message = complaint("train", tmp_path / "problem.toml", "--data", "data.nc", "--out", "o")
    assert "did you mean 'learning_rate'?" in message
    assert not Path("o").exists()


@pytest.mark.thorough
@pytest.mark.parametrize("command", ["train", "plan", "check-gradient"])
def test_keys_are_set_wherever_a_config_is_read(finished: Path, monkeypatch, command: str):
    monkeypatch.chdir(finished)
    given = [command, "problem.toml", "--data", "data.nc", "--set", "time.dt=-1"]
    assert "'time.dt' is -1" in complaint(*given)


def test_the_gradient_of_a_run_is_that_of_its_own_config(finished: Path):
    said = complaint("check-gradient", finished / "run", "--set", "time.dt=0.1")
    assert "--set changes a config" in said


def test_a_name_of_three_hundred_letters_is_no_crash(finished: Path):
    given = ["train", finished / "problem.toml", "--data", finished / "data.nc"]
    assert "too long" in complaint(*given, "--out", finished / ("a" * 300)).lower()


@pytest.mark.thorough
def test_forecast_writes_a_file(finished: Path):
    out = finished / "f.nc"
    given = ["forecast", finished / "run", "--initial", finished / "data.nc", "--until", 0.3]
    result = call(*given, "--every", 0.1, "--out", out)
    assert result.stdout == f"{out}: 4 samples, 4 times from 0 to 0.3\n"
    np.testing.assert_allclose(open_dataset(out)["time"], [0, 0.1, 0.2, 0.3], atol=1e-12)
    assert "exists already" in complaint(*given, "--out", out)
    assert "there is no folder" in complaint(*given, "--out", finished / "no" / "f.nc")


@pytest.mark.thorough
def test_a_forecast_is_continued_in_its_own_store(finished: Path, monkeypatch):
    monkeypatch.chdir(finished)
    given = ["forecast", "run", "--every", 0.1, "--out"]
    call(*given, "whole.zarr", "--initial", "data.nc", "--until", 0.6)
    result = call(*given, "f.zarr", "--initial", "data.nc", "--until", 0.3)
    assert result.stdout == "f.zarr: 4 samples, 4 times from 0 to 0.3\n"
    on = ["--initial", "f.zarr", "--until", 0.6]
    call(*given, "g.nc", *on, "--from", "last")
    call(*given, "h.nc", *on, "--from", 0.1)
    result = call(*given, "f.zarr", *on, "--from", "last")
    assert result.stdout == "f.zarr: 4 samples, 3 times from 0.4 to 0.6\n"
    whole = open_dataset("whole.zarr")
    for name, first in (("f.zarr", 0), ("g.nc", 3), ("h.nc", 1)):
        found, expected = open_dataset(name), whole.isel(time=slice(first, None))
        np.testing.assert_allclose(found["time"], expected["time"], rtol=1e-12)
        np.testing.assert_allclose(found["concentration"], expected["concentration"], rtol=2e-6)
    assert "--from last" in complaint(*given, "f.zarr", *on)
    assert "exists already" in complaint(*given, "f.zarr", "--initial", "g.nc", "--until", 1)
    at_end = ["--from", "last", "--initial", "f.zarr", "--until"]
    assert "after the initial time 0.6" in complaint(*given, "f.zarr", *at_end, 0.5)
    assert "is no .zarr store" in complaint(
        *given, "g.nc", "--initial", "g.nc", "--from", "last", "--until", 1
    )
    assert "'first' or the 'last'" in complaint(*given, "i.nc", *on, "--from", "then")
    assert "not in the data" in complaint(*given, "i.nc", *on, "--from", 0.15)
    assert "Write a .zarr store" in complaint(*given, "i.nc", *on, "--every", 1e-7)
    save(make_dataset(), Path("data.zarr"))
    given = [*given, "data.zarr", "--initial", "data.zarr", "--from", "last", "--until", 1]
    assert "is no forecast by impindiff" in complaint(*given)


@pytest.mark.thorough
def test_a_stopped_forecast_says_how_to_go_on(finished: Path, monkeypatch):
    from impindiff.forecast import _stream

    monkeypatch.chdir(finished)
    given = ["forecast", "run", "--until", 0.5, "--every", 0.1]
    call(*given, "--initial", "data.nc", "--out", "whole.zarr")

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_stream, "append_dataset", interrupted)
        message = complaint(*given, "--initial", "data.nc", "--out", "a b.zarr", status=130)
    assert "'a b.zarr' holds" not in message and "a b.zarr holds the forecast to t = 0" in message
    again = "--initial 'a b.zarr' --from last --until 0.5 --out 'a b.zarr' --every 0.1"
    assert f"To go on: impindiff forecast run {again}" in message
    call(*shlex.split(message.split("To go on: impindiff ")[1].split(" impindiff: ")[0]))
    whole, found = open_dataset("whole.zarr"), open_dataset("a b.zarr")
    np.testing.assert_allclose(found["concentration"], whole["concentration"], rtol=2e-6)


@pytest.mark.many
@pytest.mark.parametrize(
    "changes, message",
    [
        ({"--until": "0"}, "must end after the initial time 0"),
        ({"--until": "nan"}, "must end after the initial time"),
        ({"--until": "soon"}, "unable to parse string as a number"),
        ({"--every": "0"}, "interval between saved times is 0"),
        ({"--every": "-1"}, "must be positive"),
        ({"--every": "1e-300"}, "raise the interval"),
        ({"--initial": "nothing.nc"}, "no such file"),
        ({"--initial": "problem.toml"}, "a dataset is a .nc file"),
        ({"--initial": "other.nc"}, "no variable 'concentration'; it holds 'heat'"),
    ],
)
def test_forecast_refuses(finished: Path, monkeypatch, changes: dict[str, str], message: str):
    monkeypatch.chdir(finished)
    save(make_dataset().rename(concentration="heat"), Path("other.nc"))
    options = {"--initial": "data.nc", "--until": "0.2", "--out": "f.nc", **changes}
    assert message in complaint("forecast", "run", *sum(options.items(), ()))
    assert not Path("f.nc").exists()


@pytest.mark.parametrize("command", ["forecast", "evaluate", "report"])
def test_what_is_no_run_is_named(finished: Path, command: str):
    options = {
        "forecast": ["--initial", "data.nc", "--until", "1", "--out", finished / "f.nc"],
        "evaluate": ["--data", "data.nc"],
        "report": [],
    }[command]
    for path in (finished / "missing", finished / "data.nc", finished):
        message = complaint(command, path, *options)
        assert str(path) in message


def test_evaluate_prints_one_object_and_nothing_else(finished: Path):
    given = ["evaluate", finished / "run", "--data", finished / "data.nc", "--samples", "2:4"]
    result = call(*given, "--json")
    scores = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert list(scores) == ["fields", "latent", "samples"]
    field = scores["fields"]["concentration"]
    assert list(field) == ["time", "relative_l1_percent", "relative_l2_percent"]
    assert {len(values) for values in field.values()} == {5}
    assert scores["latent"].keys() == {"advection_x", "advection_y"}
    assert list(scores["latent"]["advection_x"]) == ["relative_l2_percent"]
    assert scores["samples"] == [2, 3]
    summary = RunFolder(finished / "run").read_json("summary.json")
    assert {key: summary[key] for key in scores} == scores
    table = call(*given).stdout
    assert "mean over samples [2, 3]" in table and "advection_y: relative L2 error" in table


@pytest.mark.thorough
def test_evaluate_takes_all_samples_by_default(finished: Path):
    given = ["evaluate", finished / "run", "--data", finished / "data.nc", "--json"]
    assert json.loads(call(*given).stdout)["samples"] == [0, 1, 2, 3]
    assert json.loads(call(*given, "--samples", "0,2:4").stdout)["samples"] == [0, 2, 3]
    for samples in ("9", "1:1", "x", "0:100:200"):
        message = complaint(*given, "--samples", samples)
        assert f"samples '{samples}'" in message


def test_without_a_truth_the_object_is_still_whole(finished: Path):
    data = make_dataset().drop_vars(["advection_x", "advection_y"])
    data["concentration"].values[:, 3] = np.nan
    data["concentration"].values[:, 4] = 0
    save(data, finished / "bare.nc")
    result = call("evaluate", finished / "run", "--data", finished / "bare.nc", "--json")
    scores = json.loads(result.stdout, parse_constant=pytest.fail)
    assert scores["latent"] == {}
    field = scores["fields"]["concentration"]
    assert field["time"] == [0, 0.05, 0.1, 0.2]
    assert field["relative_l1_percent"][-1] is None


def test_report_draws_again(finished: Path):
    report = finished / "run" / "report.html"
    before = report.read_text()
    report.unlink()
    assert call("report", finished / "run").stdout == f"{report}\n"
    assert report.read_text() == before
    (finished / "run" / "summary.json").unlink()
    assert "holds no summary.json" in complaint("report", finished / "run")


def test_doctor_says_what_it_found():
    assert "in order" in call("doctor").stdout or "warning" in call("doctor").stdout
    found = json.loads(call("doctor", "--json").stdout)
    assert found["passed"] is True


@pytest.mark.thorough
def test_numerics_that_fail_say_what_was_saved_and_how_to_go_on(tmp_path: Path):
    config, data = write_problem(tmp_path, {"training.stages.0.learning_rate": 1e30})
    out = tmp_path / "run"
    message = complaint("train", config, "--data", data, "--out", out, status=3)
    assert "numerics failed: epoch 2" in message and "step" in message
    assert "learned after epoch 0 is saved" in message
    assert f"{out} keeps the last good checkpoint" in message
    call("evaluate", out, "--data", data)
    message = complaint("train", config, "--data", data, "--out", out, "--resume", status=3)
    assert "numerics failed: epoch 2" in message


def test_numerics_that_fail_at_once_promise_nothing(tmp_path: Path):
    changes = {"solver.method": "bicgstab", "solver.max_steps": 1, "solver.rtol": 1e-6}
    config, file = write_problem(tmp_path, changes)
    message = complaint("train", config, "--data", file, "--out", tmp_path / "run", status=3)
    assert "epoch 1" in message
    assert "saved" not in message and "keeps" not in message


@pytest.mark.thorough
@pytest.mark.parametrize("epoch", [1, 6])
def test_an_interrupt_says_how_to_go_on(finished: Path, monkeypatch, epoch: int):
    from impindiff.runs import _folder

    log = _folder.RunFolder.log

    def interrupted(self, record) -> None:
        if record.epoch == epoch:
            raise KeyboardInterrupt
        log(self, record)

    out = finished / "stopped run"
    given = ["train", finished / "problem.toml", "--data", finished / "data.nc", "--out", out]
    with monkeypatch.context() as patch:
        patch.setattr(_folder.RunFolder, "log", interrupted)
        message = complaint(*given, status=130)
    again = f"impindiff train '{out}/config.toml' --out '{out}' --resume"
    assert again in message
    assert "already holds a run. Go on with it by --resume" in complaint(*given)
    assert "holds no summary.json" in complaint("report", out)
    call("train", out / "config.toml", "--out", out, "--resume")
    assert losses(out) == losses(finished / "run")


def test_an_interrupt_while_data_are_made_leaves_nothing(small_case, tmp_path: Path, monkeypatch):
    def interrupted(samples: int, seed: int):
        raise KeyboardInterrupt

    monkeypatch.setitem(CASES, NAME, dataclasses.replace(CASES[NAME], generate=interrupted))
    monkeypatch.chdir(tmp_path)
    for command in (
        ["run", NAME],
        ["run", NAME, "--out", "r"],
        ["generate", NAME, "--out", "a.nc"],
    ):
        assert "interrupted: nothing more was done" in complaint(*command, status=130)
    assert not Path("r").exists() and not Path("a.nc").exists()


def test_an_interrupted_report_leaves_the_one_before(finished: Path, monkeypatch):
    from impindiff.report import _page

    def interrupted(run):
        raise KeyboardInterrupt

    before = (finished / "run" / "report.html").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(_page, "load_run", interrupted)
        complaint("report", finished / "run", status=130)
    assert (finished / "run" / "report.html").read_text() == before
    assert {p.name for p in (finished / "run").iterdir() if p.name.startswith(".")} == set()
