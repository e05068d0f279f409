"""A training run: the folder it leaves, and going on with one that was stopped."""

import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr
from small_problem import losses, make_dataset, write_problem

import impindiff
from impindiff import InputError, NumericsError
from impindiff.config import config_sha256, load_config
from impindiff.data import file_sha256, open_dataset, save_dataset
from impindiff.grid import Grid
from impindiff.runs import RunFolder, evaluate_run, train_run
from impindiff.runs._finish import num_trainable
from impindiff.train import Adam, Stage

CONTENT = {
    "config.toml",
    "metrics.jsonl",
    "checkpoints",
    "summary.json",
    "forecast.nc",
    "report.html",
    "provenance.json",
}


def run_again(folder: Path, out: RunFolder, **options):
    return train_run(load_config(folder / "problem.toml"), folder / "data.nc", out, **options)


def stop_at(epoch: int):
    def watch(record) -> None:
        if record.epoch == epoch:
            raise KeyboardInterrupt

    return watch


@pytest.mark.thorough
def test_the_folder_holds_what_the_contract_says(finished: Path):
    assert {path.name for path in (finished / "run").iterdir()} == CONTENT


def test_the_config_is_written_as_resolved(finished: Path):
    config = load_config(finished / "run" / "config.toml")
    given = load_config(finished / "problem.toml")
    assert config.grid is not None
    assert [(a.name, a.lower, a.upper, a.cells) for a in config.grid] == [
        ("x", -1.0, 1.0, 12),
        ("y", 0.0, 1.0, 6),
    ]
    update = {"grid": None, "data": config.data.model_copy(update={"file": None})}
    assert config.model_copy(update=update) == given


def test_the_metrics_have_a_line_an_epoch(finished: Path):
    text = (finished / "run" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1))
    assert len(lines) == 9
    expected = ["epoch", "stage", "loss", "validation", "seconds", "solver_iterations"]
    assert list(lines[0]) == [
        *expected,
        "adjoint_iterations",
        "learning_rate",
        "rtol",
        "failures",
        "stopped_early",
    ]
    validated = [line["epoch"] for line in lines if line["validation"] is not None]
    assert validated == [2, 4, 6, 8, 9]


def test_the_summary_is_what_evaluation_gives(finished: Path):
    run = RunFolder(finished / "run")
    summary = run.read_json("summary.json")
    scores = evaluate_run(run, finished / "data.nc", "2:4")
    assert json.loads(scores.model_dump_json()) == {
        key: summary[key] for key in ("fields", "latent", "samples")
    }
    assert summary["samples"] == [2, 3] and summary["training_samples"] == [0, 1]
    assert summary["training_times"] == [0.1]
    assert (summary["dt"], summary["time_scheme"]) == (0.05, "crank-nicolson")
    assert (summary["title"], summary["question"]) == ("A small problem", "Does it work?")
    assert summary["epochs"] == 9 and summary["stopped_early"] is False
    assert 0 < summary["training_seconds"] <= summary["total_seconds"]
    assert summary["peak_memory_bytes"] > 1e7
    # 4 x 8 + 8 in the hidden layer, 8 x 2 + 2 in the head, two midpoints and two half-widths.
    assert summary["trainable_parameters"] == 62
    last = losses(finished / "run")[-1][3]
    assert summary["fields"]["concentration"]["relative_l1_percent"][-1] == pytest.approx(last)


@pytest.mark.thorough
def test_a_run_stops_early_by_samples_held_back(tmp_path: Path):
    """A rate so large that the second epoch is worse than the first."""
    changes = {
        "data.test_samples": "3:4",
        "training.validate_every": 1,
        "training.stages": [
            {"optimiser": "adam", "epochs": 9, "learning_rate": {"advection_x": 1.0}}
        ],
        "training.early_stopping": {"samples": "2:3", "patience": 1},
    }
    config, data = write_problem(tmp_path, changes)
    run = RunFolder(tmp_path / "run")
    train_run(load_config(config), data, run)
    lines = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    assert [line["stopped_early"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert run.read_json("summary.json")["stopped_early"] and len(lines) < 9
    best = min(line["validation"] for line in lines)
    errors = evaluate_run(run, data, "2:3").fields["concentration"].relative_l1_percent
    assert errors[-1] == pytest.approx(best, rel=1e-5)


def test_the_forecast_has_the_truth_beside_it(finished: Path):
    forecast = open_dataset(finished / "run" / "forecast.nc")
    data = open_dataset(finished / "data.nc")
    truth = data["concentration"].isel(sample=[2, 3])
    assert forecast["concentration"].dims == ("sample", "time", "x", "y")
    np.testing.assert_array_equal(forecast["concentration_truth"], truth)
    np.testing.assert_array_equal(forecast["advection_x_truth"], data["advection_x"])
    assert forecast["advection_y"].dims == ("x", "y")
    np.testing.assert_array_equal(forecast["sample"], [2, 3])
    for name, variable in forecast.variables.items():
        assert {"units", "long_name"} <= variable.attrs.keys(), name


def test_the_provenance_says_what_made_it(finished: Path):
    made = RunFolder(finished / "run").read_json("provenance.json")
    assert made["impindiff"] == impindiff.__version__
    assert made["packages"]["jax"] == jax.__version__
    assert {"python", "device", "platform", "command", "started", "finished"} <= made.keys()
    assert made["seed"] == 0
    assert made["commit"] is None or re.fullmatch("[0-9a-f]{40}", made["commit"])
    config = load_config(finished / "run" / "config.toml")
    assert made["config_sha256"] == config_sha256(config)
    assert made["data"]["sha256"] == file_sha256(finished / "data.nc")
    assert made["finished"] >= made["started"]


@pytest.mark.thorough
def test_the_same_again_gives_the_same_history(finished: Path):
    again = RunFolder(finished / "again")
    run_again(finished, again)
    assert losses(again.path) == losses(finished / "run")


@pytest.mark.thorough
@pytest.mark.parametrize("stops", [[1], [3, 7], [5, 9]])
def test_a_stopped_run_goes_on_to_the_same_history(finished: Path, stops: list[int]):
    out = RunFolder(finished / "stopped")
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            run_again(finished, out, resume=True, watch=stop_at(stop))
        assert not (out.path / "summary.json").exists()
        with out.metrics_file.open("a") as file:
            file.write('{"epoch": 99, "st')  # as a kill may leave it
    run_again(finished, out, resume=True)
    assert losses(out.path) == losses(finished / "run")
    assert {path.name for path in out.path.iterdir()} == CONTENT
    first, second = (RunFolder(p).read_json("summary.json") for p in (finished / "run", out.path))
    for key in ("fields", "latent", "samples", "epochs", "trainable_parameters"):
        assert first[key] == second[key]


def test_resuming_a_finished_run_changes_no_result(finished: Path):
    run = RunFolder(finished / "run")
    before, history = run.read_json("summary.json"), losses(run.path)
    run_again(finished, run, resume=True)
    after = run.read_json("summary.json")
    assert losses(run.path) == history
    assert after["fields"] == before["fields"]
    assert after["training_seconds"] == before["training_seconds"]


@pytest.mark.thorough
def test_a_run_moved_with_its_data_goes_on(tmp_path: Path):
    folder = tmp_path / "first place"
    folder.mkdir()
    save_dataset(make_dataset(), folder / "data.nc")
    config, _ = write_problem(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train_run(load_config(config), folder / "data.nc", RunFolder(folder), watch=stop_at(3))
    moved = RunFolder(folder.rename(tmp_path / "zweite Stätte"))
    stored = moved.config()
    assert stored.data.file == "data.nc"
    train_run(stored, moved.path / "data.nc", moved, resume=True)
    assert len(losses(moved.path)) == 9


@pytest.mark.many
@pytest.mark.parametrize(
    "changes, message",
    [
        ({"seed": 5}, "seed was 0, is 5"),
        ({"training.stages.0.epochs": 7}, "training.stages.0.epochs was 4, is 7"),
        ({"training.stages": [{"optimiser": "adam", "epochs": 4}]}, "stages.1.epochs was 5, is No"),
        ({"system.options.velocity.width": 9}, "system.options.velocity.width was 8, is 9"),
        ({"data.train_times": [0.1, 0.2]}, "data.train_times.1 was None, is 0.2"),
    ],
)
def test_another_config_is_refused_on_resuming(finished: Path, changes: dict, message: str):
    config, data = write_problem(finished, changes)
    with pytest.raises(InputError, match="begun with another config") as caught:
        train_run(load_config(config), data, RunFolder(finished / "run"), resume=True)
    assert message in str(caught.value)


def test_its_own_config_edited_is_told_of_on_resuming(finished: Path):
    """It agrees with itself, and what was learned before is not of what it says now."""
    run = RunFolder(finished / "run")
    text = run.config_file.read_text()
    run.config_file.write_text(text.replace("learning_rate = 0.004", "learning_rate = 0.008"))
    with pytest.warns(RuntimeWarning, match="config.toml was edited after the run was begun"):
        train_run(run.config(), finished / "data.nc", run, resume=True)


@pytest.mark.filterwarnings("ignore:.*config.toml was edited")
def test_a_stage_that_was_made_shorter_than_it_has_come_ends(finished: Path):
    """It went on for ever, as the epoch at which it would have ended was past."""
    run = RunFolder(finished / "run")
    newest = max(run.checkpoints.folder.iterdir(), key=lambda path: int(path.name))
    shutil.rmtree(newest)  # what is left is of epoch 6, the second of the stage
    run.config_file.write_text(run.config_file.read_text().replace("epochs = 5", "epochs = 1"))
    train_run(run.config(), finished / "data.nc", run, resume=True, watch=stop_at(12))
    assert len(losses(run.path)) == 6


def test_other_data_are_refused_on_resuming(finished: Path):
    data = make_dataset()
    data["concentration"].values[0, 2, 0, 0] += 1e-3
    save_dataset(data, finished / "data.nc", overwrite=True)
    with pytest.raises(InputError, match="is not the data that the run .* was begun with"):
        run_again(finished, RunFolder(finished / "run"), resume=True)
    save_dataset(make_dataset(), finished / "elsewhere.nc")


@pytest.mark.thorough
def test_training_goes_on_from_the_checkpoint_before_a_damaged_one(finished: Path):
    before = losses(finished / "run")
    newest = max((finished / "run" / "checkpoints").iterdir(), key=lambda path: int(path.name))
    for file in [path for path in newest.rglob("*") if path.is_file()]:
        file.write_bytes(file.read_bytes()[:7])
    with pytest.warns(RuntimeWarning, match=f"{newest.name} is damaged: .* before it is taken"):
        run_again(finished, RunFolder(finished / "run"), resume=True)
    assert losses(finished / "run") == before


@pytest.mark.thorough
def test_a_loss_that_turns_nan_leaves_a_run_that_forecasts(finished: Path, tmp_path: Path):
    config, data = write_problem(tmp_path, {"training.stages.0.learning_rate": 1e30})
    out = RunFolder(tmp_path / "run")
    with pytest.raises(NumericsError, match="epoch 2.*learned after epoch 0 is saved"):
        train_run(load_config(config), data, out)
    assert {path.name for path in out.path.iterdir()} == {
        "config.toml",
        "provenance.json",
        "metrics.jsonl",
        "checkpoints",
    }
    scores = evaluate_run(out, data)
    assert np.isfinite(scores.fields["concentration"].relative_l1_percent).all()


@pytest.mark.thorough
def test_an_end_between_the_datas_times_is_not_compared_with_another_time(tmp_path: Path):
    config, data = write_problem(tmp_path, {"time.until": 0.18})
    out = RunFolder(tmp_path / "run")
    scores = train_run(load_config(config), data, out)
    assert scores.fields["concentration"].time == pytest.approx([0, 0.05, 0.1, 0.15])
    forecast = open_dataset(out.forecast_file)
    assert forecast["time"].values[-1] == 0.18
    assert np.isnan(forecast["concentration_truth"].isel(time=-1)).all()
    assert np.isfinite(forecast["concentration_truth"].isel(time=slice(-1))).all()


@pytest.mark.thorough
def test_an_end_after_the_data_is_forecast_without_truth(tmp_path: Path):
    config, data = write_problem(tmp_path, {"time.until": 0.5})
    out = RunFolder(tmp_path / "run")
    scores = train_run(load_config(config), data, out)
    assert scores.fields["concentration"].time[-1] == pytest.approx(0.2)
    assert open_dataset(out.forecast_file)["time"].values[-1] == 0.5


def sparse() -> xr.Dataset:
    data = make_dataset()
    data["concentration"].values[2, 4] = np.nan
    data["concentration"].values[3, 3:] = np.nan
    return data


@pytest.mark.thorough
def test_test_samples_that_were_seldom_observed_do(tmp_path: Path):
    config, data = write_problem(tmp_path, data=sparse())
    out = RunFolder(tmp_path / "run")
    scores = train_run(load_config(config), data, out).fields["concentration"]
    assert scores.time == pytest.approx([0, 0.05, 0.1, 0.15])
    # The last time at which both were observed is the one validated at.
    validation = losses(out.path)[-1][3]
    assert scores.relative_l1_percent[2] == pytest.approx(validation)


def test_what_no_stage_trains_is_not_counted():
    field = impindiff.latents.CellField("v", np.ones(5))
    rate = impindiff.Parameter("k", 0.5, (0, 1))
    terms = [impindiff.Advection(field), impindiff.Diffusion(rate)]
    system = impindiff.System(Grid.uniform((5,), ((0, 1),), periodic=(True,)), {"c": terms})
    first, second = Stage(Adam(), 1, freeze="v"), Stage(Adam(), 1, freeze="k")
    assert num_trainable(system, [first, second]) == 6
    assert num_trainable(system, [first]) == 1
    assert num_trainable(system, [second]) == 5
