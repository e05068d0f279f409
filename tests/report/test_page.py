"""The page: alone in the world, small, true to the run, and unmoved by what users name things."""

import base64
import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import xarray as xr

from impindiff._errors import InputError
from impindiff.cli._show import summary_lines
from impindiff.forecast import Scores
from impindiff.report import write_report
from impindiff.report._baselines import of_no_change, of_variation
from impindiff.report._frames import Variable
from impindiff.runs import RunFolder

MakeRun = Callable[..., Path]

_LOADING = {"src", "srcset", "href", "xlink:href", "action", "data", "poster", "background"}


class _Page(HTMLParser):
    """Every element, id, reference and executable script of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.scripts = 0
        self.text = ""
        self._skip = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in _LOADING or name.startswith("on"):
                self.references.append(f"{name}={value}")
        self._skip = tag in ("script", "style")
        self.scripts += tag == "script" and ("type", "application/json") not in attrs

    def handle_endtag(self, tag: str) -> None:
        self._skip = False

    def handle_data(self, data: str) -> None:
        if not self._skip:
            self.text += " ".join(data.replace("\u00a0", " ").split()) + " "


def _payloads(page: str) -> list[dict[str, Any]]:
    found = re.findall(r'<script type="application/json" class="data">(.*?)</script>', page, re.S)
    return [json.loads(text) for text in found]


def _write(run: Path) -> tuple[str, _Page]:
    text = write_report(run).read_text(encoding="utf-8")
    return text, _Page(text)


def test_the_page_needs_nothing_from_outside(make_run: MakeRun):
    text, page = _write(make_run())
    assert all(re.fullmatch(r"(xlink:)?href=#[\w-]+", item) for item in page.references)
    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert set(re.findall(r"https?://[^\"' ]*", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert re.findall(r"url\((?!#)", text) == []
    assert "@import" not in text
    assert len(page.ids) == len(set(page.ids))
    assert page.scripts == 1


def test_the_page_says_what_the_run_found(make_run: MakeRun):
    text = _write(make_run())[1].text
    for words in (
        "A tracer in an unknown flow",
        "Can the flow be learned from one snapshot?",
        "0.12 %",
        "2.34 %",
        "38.4 s",
        "742 MiB",
        "33,538",
        "At t = 0.2 s the forecast of concentration is 0.12 % off the data (relative L1; 0.998 % "
        "of how much the data vary) on average over 2 samples never seen in training: very close "
        "to the data.",
        "reaches 4 times as far, and its error in concentration goes from 0.03 % to 0.12 %",
        "velocity_x is 2.34 % off",
        "adam (30 epochs), lbfgs (10 epochs)",
        "crank-nicolson",
        "jax 0.10.2",
        'case = "tracer"',
    ):
        assert words in text, words


@pytest.mark.thorough
def test_the_page_says_how_well_balances_hold(make_run: MakeRun):
    assert "Balances" not in _write(make_run())[1].text
    carbon = {
        "units": "mol/m2",
        "worst_defect": 3.4e-12,
        "changes": {"as carbon": [700.0, 900.0], "supplied": [-801.0, -799.0]},
    }
    summary = {"balances": {"carbon": carbon, "of no change": {"units": "1"}}}
    text = _write(make_run(name="other", summary=summary))[1].text
    for words in ("Balances", "as carbon +800 mol/m2, supplied \u2212800 mol/m2; defect 3.4e-12"):
        assert words in text, words
    assert "of no change" not in text


@pytest.mark.thorough
def test_the_page_is_the_same_every_time_and_leaves_no_draft(make_run: MakeRun):
    run = make_run()
    before = set(run.iterdir())
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first
    assert set(run.iterdir()) - before == {run / "report.html"}


def test_a_page_that_cannot_be_written_says_so(make_run: MakeRun):
    run = make_run()
    (run / "report.html").mkdir()
    with pytest.raises(InputError, match=r"report\.html cannot be written"):
        write_report(run)
    assert not list(run.glob(".report*"))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("num_samples", "shown"),
    [(1, [1, 41]), (5, [5, 21]), (10, [5, 21])],
    ids=["1 sample", "5 samples", "10 samples"],
)
def test_a_large_forecast_fits_and_says_what_is_left_out(
    make_run: MakeRun, num_samples: int, shown: list[int]
):
    def moving(dataset: xr.Dataset) -> xr.Dataset:
        one = dataset["velocity_x"].expand_dims(time=dataset["time"])
        return dataset.assign(velocity_x=one, velocity_x_truth=0.9 * one, velocity_y=one)

    run = make_run(cells=(128, 64), num_samples=num_samples, num_times=41, edit=moving)
    text, page = _write(run)
    assert len(text.encode()) < 5_000_000
    assert _payloads(text)[0]["rows"][0]["shape"] == shown
    assert ("5 of 10 samples" in page.text) == (num_samples == 10)


@pytest.mark.thorough
def test_a_long_training_stays_small(make_run: MakeRun):
    run = make_run()
    noise = np.random.default_rng(0).random(30_000)
    row = '{{"epoch": {}, "loss": {}, "solver_iterations": {}, "validation": {}}}'
    lines = [row.format(k + 1, v, 3 + v, 1 + v) for k, v in enumerate(noise)]
    (run / "metrics.jsonl").write_text("\n".join(lines))
    assert len(_write(run)[0]) < 700_000


@pytest.mark.thorough
def test_the_case_of_the_paper_is_shown_whole(make_run: MakeRun):
    run = make_run(cells=(128, 64), num_samples=5, num_times=21)
    text, page = _write(run)
    assert len(text.encode()) < 5_000_000
    assert _payloads(text)[0]["rows"][0]["shape"] == [5, 21]
    assert _payloads(text)[0]["rows"][0]["size"] == [128, 64]
    assert "Shown to keep this page small" not in page.text


def test_x_points_right_and_y_up(make_run: MakeRun):
    def slope(dataset: xr.Dataset) -> xr.Dataset:
        dataset["concentration"] = (100 * dataset["y"] + dataset["x"]).broadcast_like(
            dataset["concentration"]
        )
        return dataset

    text, _ = _write(make_run(cells=(6, 4), truth=False, edit=slope))
    row = _payloads(text)[0]["rows"][0]
    codes = np.frombuffer(base64.b64decode(row["panels"]["forecast"]["codes"]), np.uint8)
    picture = codes.reshape(2, 5, 4, 6)[0, 0]
    assert (np.diff(picture.astype(int), axis=0) < 0).all()
    assert (np.diff(picture.astype(int), axis=1) >= 0).all()
    assert picture[0, -1] == 254
    assert picture[-1, 0] == 0


def test_one_dimension_is_drawn_as_curves(make_run: MakeRun):
    text, page = _write(make_run(cells=(50,)))
    assert "canvas" not in page.tags
    assert _payloads(text)[0]["rows"][0]["missing"] == 65535
    assert 'data-role="truth"' in text
    assert "Data and forecast" in page.text
    # On a narrow page the pictures stand one below the other, each with what belongs to it.
    words = " ".join(page.text.split())
    assert re.search(r"Data and forecast .*? data forecast Forecast \u2212 data", words)


def test_three_dimensions_show_the_middle_plane_across_each_axis(make_run: MakeRun):
    text, page = _write(make_run(cells=(8, 6, 5)))
    for axis, place in (("z", "0"), ("y", "0.1667"), ("x", "0.125")):
        assert f"A slice through the middle of the domain, {axis} = {place}." in page.text
    for viewer in _payloads(text):
        assert [row["size"] for row in viewer["rows"]] == [[8, 6], [8, 5], [6, 5]]
        assert [row["axes"] for row in viewer["rows"]] == [["x", "y"], ["x", "z"], ["y", "z"]]


def test_several_fields_and_learned_functions(make_run: MakeRun):
    def more(dataset: xr.Dataset) -> xr.Dataset:
        one, inputs = dataset["concentration"], np.linspace(0, 1, 9)
        law = xr.DataArray(inputs**2, {"law_u": inputs}, attrs={"units": "1/s"})
        law["law_u"].attrs = {"units": "mol", "long_name": "u"}
        of_two = xr.DataArray(np.outer(inputs, inputs), {"r_u": inputs, "r_v": 9 * inputs})
        extra: dict[str, Any] = {
            "law": law,
            "law_truth": 1.1 * law,
            "r": of_two,
            "temperature": 300 + one,
        }
        return dataset.assign(extra)

    text, page = _write(make_run(cells=(20,), latents=False, edit=more))
    fields, latents = _payloads(text)
    assert [row["axes"] for row in fields["rows"]] == [["x"], ["x"]]
    assert [list(row["panels"]) for row in latents["rows"]] == [
        ["truth", "forecast", "error"],
        ["forecast"],
    ]
    assert [row["size"] for row in latents["rows"]] == [[9, 1], [9, 9]]
    assert "u [mol]" in page.text and "A learned function" in page.text
    assert "not to scale" not in page.text


def test_without_truth_there_is_no_error_and_no_claim(make_run: MakeRun):
    text, page = _write(make_run(truth=False))
    assert "cannot say how good it is" in page.text
    assert "No data stand beside it, so no error can be drawn." in page.text
    assert list(_payloads(text)[0]["rows"][0]["panels"]) == ["forecast"]


def test_readings_are_the_headline_where_there_is_no_truth(make_run: MakeRun):
    run = make_run(truth=False)
    path = run / "summary.json"
    part = {"rmse": 0.0123, "chi2_per_reading": 1.05, "count": 40}
    entry = part | {"trained": part, "held_back": part | {"rmse": 0.0456, "count": 8}}
    summary = json.loads(path.read_text()) | {"readings": {"probe": entry}}
    path.write_text(json.dumps(summary))
    _, page = _write(run)
    assert "cannot say how good" not in page.text
    assert "0.0456" in page.text and "error of readings held back" in page.text
    for words in (
        "For probe, the model is 0.0456 off the 8 readings held back (root mean square; chi "
        "squared per reading 1.05) and 0.0123 off the 40 readings trained on (root mean square;",
        "Chi squared per reading is the mean square error in units of the stated noise",
    ):
        assert words in page.text, words


def test_readings_of_an_instrument_are_in_its_units(make_run: MakeRun):
    score = {"rmse": 1.95, "chi2_per_reading": None, "count": 8, "trained": None}
    score["held_back"] = {"rmse": 1.95, "chi2_per_reading": None, "count": 8}
    summary = {"readings": {"thermocouples": score}, "reading_units": {"thermocouples": "K"}}
    page = _write(make_run(summary=summary))[1]
    assert "1.95 K error of readings held back" in page.text
    assert "1.95 K off the 8 readings held back (root mean square)." in page.text
    assert "Chi squared" not in page.text
    assert "Instruments thermocouples (8 readings held back)" in page.text


def test_of_a_run_that_learns_nothing_no_part_is_held_back(make_run: MakeRun):
    part = {"rmse": 1.95, "chi2_per_reading": 1.0, "count": 8}
    nothing = {
        "training_samples": [],
        "training_times": [],
        "training_seconds": 0.0,
        "epochs": 0,
        "trainable_parameters": 0,
        "readings": {"probe": part | {"trained": None, "held_back": part}},
    }
    run = make_run(latents=False, summary=nothing)
    (run / "metrics.jsonl").write_text("")
    page = _write(run)[1]
    assert "How good it is Nothing was learned: all is known here" in page.text.replace("  ", " ")
    assert "Nothing was trained." in page.text
    for claim in ("held back", "seen in training", "training time", "epochs", "0 s "):
        assert claim not in page.text.split("Provenance")[0], claim


def test_a_verdict_is_held_against_how_much_the_data_vary(make_run: MakeRun):
    """About 290, changing by 0.01: an error of 0.001 % is large, and no change is nearer."""

    def warm(dataset: xr.Dataset) -> xr.Dataset:
        exact = dataset["concentration_truth"].astype(float)
        return dataset.assign(
            concentration_truth=290 + 0.001 * exact, concentration=290.01 + 0.001 * exact[:, ::-1]
        )

    errors = {"time": [0.0, 0.2]} | dict.fromkeys(
        ("relative_l1_percent", "relative_l2_percent"), [0.0, 0.01]
    )
    page = _write(make_run(edit=warm, summary={"fields": {"concentration": errors}}))[1]
    assert re.search(r"how much the data vary\) .*: no better than a forecast in which", page.text)
    assert "to the eye" not in page.text

    def near(dataset: xr.Dataset) -> xr.Dataset:
        exact = dataset["concentration_truth"].astype(float)
        return dataset.assign(concentration_truth=290 + exact, concentration=290 + 1.001 * exact)

    page = _write(make_run(edit=near, name="near"))[1]
    assert "never seen in training: to the eye the same as the data." in page.text


def test_headlines_say_what_an_error_is_to_be_held_against(make_run: MakeRun):
    """From 290 to 290.29 everywhere: 0.1 % off if nothing changes, so that 0.12 % is poor."""

    def warm(dataset: xr.Dataset) -> xr.Dataset:
        dataset["concentration_truth"][:] = 290.0
        dataset["concentration_truth"][:, -1] = 290.0 / (1 - 1e-3)
        return dataset

    run = make_run(edit=warm)
    assert "t = 0.2 s, relative L1; where nothing changes 0.1 %" in _write(run)[1].text
    errors = {"time": [0.0, 0.2], "relative_l1_percent": [0.0, 0.12]}
    found = Scores.model_validate(
        {
            "fields": {"concentration": errors | {"relative_l2_percent": [0.0, 0.12]}},
            "latent": {"velocity_x": {"relative_l2_percent": math.inf}},
            "samples": [5, 6],
        }
    )
    lines = summary_lines(RunFolder(run), found)
    assert "t = 0.2: 0.12 % off (relative L1, where nothing changes 0.1 %)" in lines
    assert "velocity_x (its truth is zero, so there is no relative error)" in lines


def test_figures_do_not_depend_on_who_draws_them(make_run: MakeRun):
    """Not even on a `matplotlibrc` in the current folder, which may be that of a stranger's run."""
    run = make_run()
    text = _write(run)[0]
    others: dict[Any, Any] = {
        "text.usetex": True,
        "figure.dpi": 33,
        "lines.linestyle": ":",
        "font.family": "none",
    }
    with matplotlib.rc_context(others):
        assert _write(run)[0] == text


def test_names_of_stages_that_nothing_can_show_are_shown_otherwise(make_run: MakeRun):
    run = make_run()
    log = run / "metrics.jsonl"
    log.write_text(log.read_text().replace('"stage": "', r'"stage": "\u0000\ud800\u202e'))
    assert "\ufffd\ufffd\ufffdlbfgs (10 epochs)" in _write(run)[1].text


def test_the_reach_of_a_forecast_counts_from_its_start(make_run: MakeRun):
    """Data from t = 0.05 on, of a system that knows where it was at t = -0.05: 0.25 / 0.15."""
    errors = {"time": [0.05, 0.1, 0.15, 0.2]} | dict.fromkeys(
        ("relative_l1_percent", "relative_l2_percent"), [0.1, 0.2, 0.3, 0.4]
    )
    about = {"fields": {"concentration": errors}, "training_times": [0.1], "start": -0.05}
    run = make_run(summary=about, edit=lambda forecast: forecast.isel(time=slice(1, None)))
    text = _write(run)[1].text
    assert "reaches 1.67 times as far, and its error in concentration goes from 0.2 %" in text
    assert "a forecast in which nothing changes after t = 0.05 s would be" in text


def test_one_sample_with_later_times_held_back_is_said_to_be_seen(make_run: MakeRun):
    run = make_run(num_samples=1, summary={"training_samples": [5]})
    text = _write(run)[1].text
    assert "for one sample, which training has seen up to t = 0.05 s" in text
    text = _write(make_run(name="two", summary={"training_samples": [5, 6, 7]}))[1].text
    assert "over 2 samples, all of which training has seen up to t = 0.05 s" in text


def test_comparisons_of_several_fields_name_each_and_repeat_nothing(make_run: MakeRun):
    def more(dataset: xr.Dataset) -> xr.Dataset:
        return dataset.assign(
            heat=2 + dataset["concentration"], heat_truth=2 + dataset["concentration_truth"]
        )

    run = make_run(edit=more)
    path = run / "summary.json"
    summary = json.loads(path.read_text())
    summary["fields"]["heat"] = summary["fields"]["concentration"]
    path.write_text(json.dumps(summary))
    text = _write(run)[1].text
    assert text.count("Training saw t = 0.05 s") == text.count("For comparison") == 1
    assert "in concentration goes from 0.03 % to 0.12 % and in heat goes from 0.03 %" in text
    assert re.search(r"would be \S+ % off in concentration and \S+ % off in heat\.", text)


def test_the_first_epoch_is_told_apart_where_it_is_long(make_run: MakeRun):
    text = _write(make_run())[1].text
    # 40 epochs of 0.1 s and 2 s of compilation.
    assert "epochs 0.1 s each (median), the first 2.1 s" in text
    assert "The first epoch, with compilation 2.1 s An epoch (median) 0.1 s" in text


def test_an_epoch_far_longer_than_the_others_does_not_count(make_run: MakeRun):
    """The second of them waits for a minute, and so all that follow are later."""
    run = make_run()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    late = [row | {"seconds": row["seconds"] + 60 * (row["epoch"] > 1)} for row in rows]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, late)))
    text = _write(run)[1].text
    assert "epochs 0.1 s each (median), the first 2.1 s" in text
    assert "The first epoch, with compilation 2.1 s An epoch (median) 0.1 s" in text


def test_an_epoch_is_no_longer_where_rows_are_missing(make_run: MakeRun):
    run = make_run()
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join(lines[::4]))
    with pytest.warns(RuntimeWarning, match="leaves a gap"):
        assert "An epoch (median) 0.1 s" in _write(run)[1].text


def test_latents_in_time_alone_and_as_numbers(make_run: MakeRun):
    def more(dataset: xr.Dataset) -> xr.Dataset:
        moving = dataset["velocity_x"].expand_dims(time=dataset["time"])
        rate = xr.DataArray(np.arange(5.0), dims="time", attrs={"units": "1/s"})
        number = xr.DataArray(1e-3, attrs={"units": "m2/s"})
        truth = xr.DataArray(1.1e-3)
        extra = {"diffusivity": number, "diffusivity_truth": truth, "label": ((), "a text")}
        return dataset.assign(moving=moving, rate=rate, **extra)

    text, page = _write(make_run(edit=more))
    rows = {row["axes"][0]: row["shape"] for row in _payloads(text)[1]["rows"]}
    assert rows == {"x": [1, 5], "time": [1, 1]}
    assert "diffusivity 0.001 m2/s 0.0011" in page.text


def test_missing_values_are_gaps(make_run: MakeRun):
    def holes(dataset: xr.Dataset) -> xr.Dataset:
        dataset["concentration"][0, -1, 3:5] = np.nan
        dataset["concentration_truth"][:, -1, 8:] = np.nan
        dataset["velocity_x"][0] = np.inf
        return dataset

    text, page = _write(make_run(edit=holes))
    panels = _payloads(text)[0]["rows"][0]["panels"]
    last = np.frombuffer(base64.b64decode(panels["error"]["codes"]), np.uint8)
    gaps = last.reshape(2, 5, 8, 16)[0, -1] == 255
    assert gaps[:, 3:5].all() and gaps[:, 8:].all() and not gaps[:, :3].any()
    assert "Hatched: no value." in page.text


def test_a_forecast_that_broke_down_is_called_so(make_run: MakeRun):
    broken = {
        "time": [0.0, 0.2],
        "relative_l1_percent": [0.0, float("nan")],
        "relative_l2_percent": [0.0, None],
    }
    _, page = _write(make_run(summary={"fields": {"concentration": broken}}))
    assert "the forecast of concentration is not finite" in page.text


def test_a_killed_run_is_drawn_with_what_it_left(make_run: MakeRun):
    run = make_run()
    rows = '{"epoch": 1, "loss": 0.5}\n{"epoch": 2, "loss": NaN}\n{"epoch": 3, "loss": 0'
    (run / "metrics.jsonl").write_text(rows)
    with pytest.warns(RuntimeWarning, match="metrics.jsonl says nothing of epochs 3 to 40"):
        _, page = _write(run)
    assert "metrics.jsonl says nothing of epochs 3 to 40, which were trained." in page.text
    assert "1 unreadable line of metrics.jsonl left out" in page.text
    assert "From epoch 2 on, some losses are not finite." in page.text


@pytest.mark.filterwarnings("ignore:.*the report leaves a gap:RuntimeWarning")
def test_an_old_run_without_the_optional_keys(make_run: MakeRun):
    run = make_run()
    summary = json.loads((run / "summary.json").read_text())
    kept = {name: summary[name] for name in ("fields", "latent", "samples")}
    (run / "summary.json").write_text(json.dumps(kept))
    for name in ("metrics.jsonl", "config.toml", "provenance.json"):
        (run / name).unlink()
    _, page = _write(run)
    assert "Can velocity_x be learned from measurements of concentration" in page.text
    assert "This run has no record of its training" in page.text


@pytest.mark.filterwarnings("ignore:.*the report leaves a gap:RuntimeWarning")
def test_names_are_text_and_never_markup(make_run: MakeRun):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)> $x^{$ & \"'"

    def rename(dataset: xr.Dataset) -> xr.Dataset:
        dataset = dataset.rename({"velocity_x": "v<b>", "velocity_x_truth": "v<b>_truth"})
        dataset["concentration"].attrs.update(long_name=evil, units=evil)
        dataset["time"].attrs["units"] = evil
        dataset["x"].attrs["units"] = evil
        return dataset

    run = make_run(edit=rename, summary={"title": evil, "question": evil, "time_scheme": evil})
    (run / "config.toml").write_text(evil)
    (run / "provenance.json").write_text(json.dumps({evil: {evil: [evil]}}))
    (run / "metrics.jsonl").write_text(json.dumps({"epoch": 1, "stage": evil, "loss": 1.0}))
    text, page = _write(run)
    assert page.scripts == 1
    assert not {"img", "b"} & set(page.tags)
    assert not [item for item in page.references if item.startswith("on")]
    assert "alert(1)</script>" not in text
    assert "v<b>" in page.text


def test_data_at_the_start_alone_are_nothing_to_compare_with(make_run: MakeRun):
    def start_alone(dataset: xr.Dataset) -> xr.Dataset:
        dataset["concentration_truth"][:, 1:] = np.nan
        return dataset

    text, page = _write(make_run(edit=start_alone))
    assert list(_payloads(text)[0]["rows"][0]["panels"]) == ["forecast"]
    assert "No data stand beside it" in page.text and "no value" not in page.text


def test_the_error_of_a_frame_counts_all_cells_and_not_the_pixels_alone(make_run: MakeRun):
    def uneven(dataset: xr.Dataset) -> xr.Dataset:
        dataset["concentration"][:, :, ::2] *= 2
        return dataset

    run = make_run(cells=(400, 6), edit=uneven)
    with xr.open_dataset(run / "forecast.nc") as opened:
        forecast, truth = (opened[n].values for n in ("concentration", "concentration_truth"))
    expected = 100 * np.abs(forecast - truth).sum((2, 3)) / np.abs(truth).sum((2, 3))
    row = _payloads(_write(run)[0])[0]["rows"][0]
    assert row["size"][0] < 400
    np.testing.assert_allclose(row["errors"], expected, rtol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize(("unit", "start"), [(1e-9, 0.0), (1.0, 1e7)])
def test_times_of_any_size_are_told_apart(make_run: MakeRun, unit: float, start: float):
    times = start + unit * np.arange(5)
    run = make_run(
        edit=lambda dataset: dataset.assign_coords(time=times),
        summary={"training_times": [float(times[1])]},
    )
    said = _payloads(_write(run)[0])[0]["times"]
    assert len({each["label"] for each in said}) == 5
    assert [each["phase"] for each in said] == [
        "not trained on",
        "a training time",
        *["beyond the training times"] * 3,
    ]


@pytest.mark.thorough
def test_notes_say_how_far_values_go_beyond_their_colours(make_run: MakeRun):
    def wild(dataset: xr.Dataset) -> xr.Dataset:
        dataset["concentration"][0, -1, 0, 0] = 512.5
        return dataset

    text = _write(make_run(cells=(64, 32), edit=wild))[1].text
    assert "to 512 mol; the colours end earlier. The errors reach 51" in text
    assert "colours end earlier" not in _write(make_run(name="tame"))[1].text
    text = _write(make_run(cells=(64,), name="curve", edit=lambda d: _wild_curve(d)))[1].text
    assert "to 512 mol; the axis ends earlier." in text and "colours end" not in text


def _wild_curve(dataset: xr.Dataset) -> xr.Dataset:
    dataset["concentration"][0, -1, 0] = 512.5
    return dataset


def _svg(text: str, name: str) -> str:
    found = re.search(rf'<svg aria-hidden="true"(?:(?!</svg>).)*?id="{name}-.*?</svg>', text, re.S)
    assert found
    return found[0]


def test_nothing_is_called_beyond_where_training_saw_the_last_time(make_run: MakeRun):
    plot = _svg(_write(make_run())[0], "errors")
    assert ">training times<" in plot and ">beyond<" in plot
    run = make_run(name="to the end", summary={"training_times": [0.1, 0.2]})
    plot = _svg(_write(run)[0], "errors")
    assert ">training times<" in plot and ">beyond<" not in plot


def test_times_along_the_error_are_told_apart(make_run: MakeRun):
    times = [1e8, 1e8 + 1, 1e8 + 2]
    errors = dict.fromkeys(("relative_l1_percent", "relative_l2_percent"), [0.0, 1.0, 2.0])
    summary = {"fields": {"concentration": {"time": times} | errors}, "training_times": []}
    plot = _svg(_write(make_run(summary=summary))[0], "errors")
    labels = re.findall(r">(10000000\d(?:\.\d)?)<", plot)
    assert len(labels) > 2 and len(set(labels)) == len(labels)


def test_late_times_are_told_apart_in_words(make_run: MakeRun):
    times = (1e8 + np.arange(5)).tolist()
    errors = dict.fromkeys(("relative_l1_percent", "relative_l2_percent"), [0.0, 1, 2, 3, 4])
    run = make_run(
        edit=lambda dataset: dataset.assign_coords(time=times),
        summary={
            "fields": {"concentration": {"time": times} | errors},
            "training_times": times[:2],
        },
    )
    text = _write(run)[1].text
    for words in (
        "concentration against the data at t = 100000004,",
        "At t = 100000004 the forecast",
        "Training saw t = 100000000, 100000001;",
        "training times, t = 100000000, 100000001.",
        "Trained at t = 100000000, 100000001",
    ):
        assert words in text, words


def test_both_solvers_are_seen_where_their_iterations_agree(make_run: MakeRun):
    run = make_run()
    rows = [
        {"epoch": k, "loss": 1 / k, "solver_iterations": 1.0, "adjoint_iterations": 1.0}
        for k in range(1, 41)
    ]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    text, page = _write(run)
    plot = _svg(text, "iterations")
    forward, adjoint = (
        re.findall(rf'style="[^"]*stroke: var\(--series-{k}\)[^"]*"', plot)[0] for k in (0, 1)
    )
    assert "dasharray" not in forward and "dasharray" in adjoint
    assert '<i class="series-1 dashed"></i>adjoint solve' in text
    assert ">0.2<" not in plot and ">1<" in plot


def test_the_validation_error_names_its_samples(make_run: MakeRun):
    run = make_run(summary={"validation_samples": [7, 8, 9]})
    text = _write(run)[1].text
    assert "relative L1 of the forecast of samples 7\u20139 at the last time observed" in text


def test_names_of_short_stages_do_not_overlap(make_run: MakeRun):
    run = make_run()
    stages = ["first"] * 2 + ["second"] * 2 + ["third"] * 90 + ["the last of all"] * 2
    rows = [{"epoch": k, "loss": 1 / k, "stage": name} for k, name in enumerate(stages, start=1)]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    plot = _svg(_write(run)[0], "loss")
    assert ">first<" in plot and ">second<" not in plot and ">third<" not in plot
    assert re.search(r"text-anchor: end[^>]*>the last of all<", plot)


def test_five_fields_have_five_colours(make_run: MakeRun):
    run = make_run()
    summary = json.loads((run / "summary.json").read_text())
    errors = summary["fields"]["concentration"]
    summary["fields"] = {name: errors for name in "abcde"}
    (run / "summary.json").write_text(json.dumps(summary))
    text = _write(run)[0]
    colours = set(re.findall(r'<i class="(series-\d)"></i>[a-e], L1', text))
    assert len(colours) == 5
    assert all(text.count(f"--{colour}: #") == 2 for colour in colours)


def test_the_spread_of_an_ensemble_is_nothing_that_was_measured(make_run: MakeRun):
    def spread(dataset: xr.Dataset) -> xr.Dataset:
        names = ("concentration", "velocity_x")
        return dataset.assign({f"{name}_std": 0.1 * abs(dataset[name]) for name in names})

    text = _write(make_run(edit=spread, summary={"question": ""}))[1].text
    assert "Can velocity_x be learned from measurements of concentration, and" in text


def test_data_that_end_at_zero_are_no_broken_forecast(make_run: MakeRun):
    def washed_out(dataset: xr.Dataset) -> xr.Dataset:
        dataset["concentration_truth"][:, -1] = 0
        dataset["concentration"][:, -1] = 1e-3
        return dataset

    endless = {
        "time": [0.0, 0.2],
        "relative_l1_percent": [0.0, None],
        "relative_l2_percent": [0.0, None],
    }
    run = make_run(edit=washed_out, summary={"fields": {"concentration": endless}})
    text = _write(run)[1].text
    assert "not finite" not in text and "broke down" not in text
    assert "At t = 0.2 s data of concentration are zero, so its forecast has no relative" in text
    assert re.search(r"; it is 0\.1\d+ % of how much the data vary off .*: to the eye the", text)
    assert "\u2014 forecast error concentration against the data at t = 0.2 s" in text


def test_steps_that_an_error_controls_are_called_so(make_run: MakeRun):
    text = _write(make_run(summary={"dt": None}))[1].text
    assert "Time step controlled by its error" in text
    assert "Training, forecast and scores 1 min 11 s" in text


def test_a_forecast_without_cells_is_judged_as_others(make_run: MakeRun):
    def decay(dataset: xr.Dataset) -> xr.Dataset:
        values = np.tile(np.exp(-3 * dataset["time"].to_numpy()), (2, 1))
        one = xr.DataArray(values, dims=("sample", "time"))
        lone = {"concentration": 1.01 * one, "concentration_truth": one}
        return dataset.drop_vars(["concentration", "concentration_truth", "x"]).assign(lone)

    text = _write(make_run(cells=(8,), latents=False, edit=decay))[1].text
    assert re.search(r"\d % of how much the data vary\) on average over 2 samples", text)
    assert re.search(r"nothing changes would be 8\d.\d % off in concentration", text)


def test_what_an_error_is_held_against():
    """Two samples of four cells: the first data, and how far the data are from their median."""
    times, dims = {"time": [0.0, 1.0]}, ("sample", "time", "x")
    truth = np.array([[[0, 0, 0, 8.0], [0, 0, 4, 4]], [[1, 1, 1, 1.0], [2, 2, 2, 10]]])
    forecast = truth + np.array([0.5, 1.0])[:, None, None]
    field = Variable("c", xr.DataArray(forecast, times, dims), xr.DataArray(truth, times, dims))
    # |0 - 4| + |8 - 4| and 0 of 8; 1, 1, 1 and 9 of 16.
    assert of_no_change(field, 1.0) == pytest.approx(100 * np.mean([8 / 8, 12 / 16]), rel=1e-12)
    # The medians are 0 and 1.5, where the means are 2 and 2.5.
    expected = 100 * np.mean([0.5 / (16 / 8), 1.0 / (12 / 8)])
    assert of_variation(field, 1.0) == pytest.approx(expected, rel=1e-12)
