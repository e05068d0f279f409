"""What is not the folder of a finished run is refused with the way out; the rest may have gaps."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from impindiff._errors import InputError
from impindiff.report import write_report
from impindiff.report._load import load_run

MakeRun = Callable[..., Path]


def test_a_folder_that_does_not_exist(tmp_path: Path):
    with pytest.raises(InputError, match=r"nowhere does not exist.*impindiff run"):
        write_report(tmp_path / "nowhere")


def test_a_file_instead_of_a_folder(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file"):
        write_report(tmp_path / "file")


@pytest.mark.parametrize("name", ["summary.json", "forecast.nc"])
def test_an_unfinished_run_names_what_is_missing_and_what_is_there(make_run: MakeRun, name: str):
    run = make_run()
    (run / name).unlink()
    with pytest.raises(
        InputError, match=rf"no {name}.*train \S+run/config\.toml --out \S+run --resume. finishes"
    ):
        write_report(run)


def test_numbers_beyond_all_floats_are_none(make_run: MakeRun):
    run = make_run()
    summary = json.loads((run / "summary.json").read_text())
    parts = {"trained": {"rmse": 1.0, "count": float("inf")}, "held_back": {"rmse": 10**400}}
    summary |= {"training_seconds": 10**400, "epochs": -(10**400), "readings": {"probe": parts}}
    summary |= {"warnings": 3}
    (run / "summary.json").write_text(json.dumps(summary))
    assert not load_run(run).readings
    assert "probe" not in write_report(run).read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"fields": ', "cannot be read: it is damaged"),
        ("[1, 2]", "holds a JSON list"),
        (
            '{"fields": {"u": {"time": [0, 1], "relative_l1_percent": [0],'
            ' "relative_l2_percent": [0, 1]}}}',
            "fields.u has 2 times, 1 values",
        ),
    ],
)
def test_a_summary_that_makes_no_sense(make_run: MakeRun, text: str, message: str):
    run = make_run()
    (run / "summary.json").write_text(text)
    with pytest.raises(InputError, match=message):
        write_report(run)


def test_a_forecast_of_nothing(make_run: MakeRun):
    run = make_run(edit=lambda dataset: dataset.isel(sample=slice(0)))
    with pytest.raises(InputError, match="empty along sample"):
        write_report(run)


def test_a_truncated_forecast(make_run: MakeRun):
    run = make_run()
    whole = (run / "forecast.nc").read_bytes()
    (run / "forecast.nc").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"forecast\.nc"):
        write_report(run)
    assert not (run / "report.html").exists()


@pytest.mark.filterwarnings("ignore:.*the report leaves a gap:RuntimeWarning")
def test_a_killed_run_leaves_half_a_line_and_a_loss_that_is_no_number(make_run: MakeRun):
    run = make_run()
    lines = ['{"epoch": 1, "loss": 0.5, "seconds": 1.0}', '{"epoch": 2, "loss": NaN}', "17"]
    (run / "metrics.jsonl").write_text("\n".join(lines) + '\n{"epoch": 3, "lo')
    history = load_run(run).history
    assert len(history) == 2
    assert history.unreadable_lines == 2
    np.testing.assert_array_equal(history["loss"], [0.5, np.nan])


def test_everything_but_summary_and_forecast_may_be_missing_or_broken(make_run: MakeRun):
    run = make_run()
    (run / "metrics.jsonl").unlink()
    (run / "config.toml").unlink()
    (run / "provenance.json").write_text("{")
    (run / "summary.json").write_text(json.dumps({"fields": {}, "latent": None, "samples": [5]}))
    with pytest.warns(RuntimeWarning, match="provenance.json is damaged.* leaves a gap"):
        loaded = load_run(run)
    assert (len(loaded.history), loaded.config, dict(loaded.provenance)) == (0, "", {})
    (run / "provenance.json").unlink()
    with pytest.warns(RuntimeWarning, match=r"provenance.json cannot be read \(No such file"):
        assert write_report(run).is_file()
