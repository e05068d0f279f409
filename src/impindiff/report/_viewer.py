"""A viewer: rows of pictures under one time slider, as data for the template and the page's script.

A row shows one variable: truth and forecast on one scale, their difference on its own. In two
and three dimensions the pictures are maps, in one dimension curves. Each sample has a scale of
its own, the same for all its times: the pictures of one sample compare, and none is dim beside
a brighter sample.
"""

import base64
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xarray as xr

from impindiff.data import time_slack
from impindiff.report._codes import Scale, Tick, curve_codes, error_scale, ticks, value_scale
from impindiff.report._format import plain_apart, unit_of
from impindiff.report._frames import Frames, Selection, Variable, errors_of, frames_of, select
from impindiff.report._notes import left_out, remarks_on

_MAP_MISSING, _CURVE_MISSING = 255, 65535


@dataclass(frozen=True)
class Axis:
    """An axis of a picture: its label and ticks."""

    label: str
    ticks: list[Tick]


@dataclass(frozen=True)
class Row:
    """One variable: what the template writes around its pictures."""

    name: str
    long_name: str
    unit: str
    is_map: bool
    has_truth: bool
    known: str
    aspect: float
    gutter: float
    x: Axis
    y: Axis | None
    note: str


@dataclass(frozen=True)
class Viewer:
    """Rows that share a time slider and a choice of sample.

    Args:
        rows: a variable each.
        times: labels of the times shown; `samples` likewise.
        gutter: room that the labels of vertical axes need on their left [rem].
        marks: places of the training times along the slider, in percent.
        note: what was left out, if anything.
        payload: all that the script needs, ready for JSON.
    """

    rows: list[Row]
    times: list[str]
    samples: list[str]
    gutter: float
    marks: list[float]
    note: str
    payload: dict[str, Any]


def make_viewer(
    variables: Sequence[Variable],
    dataset: xr.Dataset,
    training_times: Sequence[float],
    byte_budget: int,
) -> Viewer | None:
    """Show these variables as far as the budget (before base64) goes; None if none can be drawn."""
    variables = [plane for variable in variables if variable.axes for plane in variable.planes]
    if not variables:
        return None
    selection = select(variables, byte_budget)
    times = dataset["time"].to_numpy()[selection.times] if "time" in dataset.dims else np.zeros(1)
    times = times.astype(float)
    samples = (
        [str(name) for name in dataset["sample"].to_numpy()[selection.samples]]
        if "sample" in dataset.dims
        else ["0"]
    )
    rows, data = zip(*(_row(variable, selection) for variable in variables), strict=True)
    unit = unit_of(str(dataset["time"].attrs.get("units", ""))) if "time" in dataset else ""
    labels = [f"{label}{unit}" for label in plain_apart(times.tolist())]
    return Viewer(
        rows=list(rows),
        times=labels,
        samples=samples,
        marks=_marks(times, training_times),
        gutter=max(row.gutter for row in rows),
        note=left_out(variables, selection),
        payload={
            "times": [
                {"value": float(time), "label": label, "phase": phase}
                for time, label, phase in zip(
                    times, labels, _phases(times, training_times), strict=True
                )
            ],
            "samples": samples,
            "rows": list(data),
        },
    )


def _row(variable: Variable, selection: Selection) -> tuple[Row, dict[str, Any]]:
    frames = frames_of(variable, selection)
    scales, error_scales, panels = _pictures(frames)
    is_map = len(frames.axes) > 1
    # What the data hold of a field need not be true; of what is inferred they hold the truth.
    known, guess = (
        ("data", "forecast") if "sample" in variable.forecast.dims else ("truth", "inferred")
    )
    unit = unit_of(str(variable.forecast.attrs.get("units", "")))
    row = Row(
        name=variable.name,
        long_name=str(variable.forecast.attrs.get("long_name", "")),
        unit=unit.strip(),
        is_map=is_map,
        has_truth=frames.truth is not None,
        known=known,
        aspect=frames.drawn_aspect,
        gutter=_gutter(frames, panels),
        x=Axis(_axis_label(variable, 0), frames.axes[0].ticks(3, _letters(frames))),
        y=Axis(_axis_label(variable, 1), _upright_ticks(frames)) if is_map else None,
        note=remarks_on(variable, frames, scales, error_scales),
    )
    return row, {
        "size": [*frames.forecast.shape[2:], 1][:2],
        "shape": list(frames.forecast.shape[:2]),
        "missing": scales[0].missing,
        "bounds": [[axis.low, axis.high] for axis in frames.axes],
        "axes": [str(name) for name in variable.axes[:2]],
        "unit": unit,
        "errors": errors_of(variable, selection),
        "words": {"truth": known, "forecast": guess, "error": "error"},
        "panels": panels,
    }


def _letters(frames: Frames) -> float:
    """How many letters of a label fit along a picture, on the narrowest page."""
    return min(28 * frames.drawn_aspect, 18.0) / 0.47


def _upright_ticks(frames: Frames) -> list[Tick]:
    # Of a flat map there is room for those at its ends alone.
    marks = frames.axes[1].ticks(3)
    return marks if frames.drawn_aspect < 6 else marks[:: max(len(marks) - 1, 1)]


def _gutter(frames: Frames, panels: dict[str, Any]) -> float:
    """The room [rem] that the labels of the vertical axes need on their left."""
    if len(frames.axes) > 1:
        labels, name = [tick.label for tick in _upright_ticks(frames)], 1.1
    else:
        each = [tick for panel in panels.values() for ticks in panel["ticks"] for tick in ticks]
        labels, name = [tick["label"] for tick in each], 0.0
    return round(max(2.9, 0.47 * max(map(len, labels), default=0) + 0.5 + name), 2)


def _pictures(frames: Frames) -> tuple[list[Scale], list[Scale], dict[str, Any]]:
    """The scales of the samples, of values and of errors, and the panels by role."""
    forecast, truth = frames.forecast, frames.truth
    is_map = len(frames.axes) > 1
    missing = _MAP_MISSING if is_map else _CURVE_MISSING
    # A colour bar is as wide as its map, and never narrow; the values of a curve stand upright.
    room = max(_letters(frames), 18.0) if is_map else math.inf
    if truth is None:
        scales = [value_scale(None, part, missing) for part in forecast]
        return scales, [], {"forecast": _panel(forecast, scales, room)}
    scales = [value_scale(*pair, missing) for pair in zip(truth, forecast, strict=True)]
    with np.errstate(invalid="ignore", over="ignore"):
        difference = forecast - truth
    error_scales = [error_scale(part, missing) for part in difference]
    panels = {
        "truth": _panel(truth, scales),
        "forecast": _panel(forecast, scales, 2 * room),
        "error": _panel(difference, error_scales, room),
    }
    return scales, error_scales, panels


def _panel(values: np.ndarray, scales: Sequence[Scale], room: float = math.inf) -> dict[str, Any]:
    # Maps row by row from the top, as a screen is filled: x to the right, y up.
    drawn = values if values.ndim == 3 else values.swapaxes(2, 3)[:, :, ::-1]
    coded = scales
    if values.ndim == 3:
        coded = [curve_codes(scale, part) for scale, part in zip(scales, drawn, strict=True)]
    codes = b"".join(scale.encode(part) for scale, part in zip(coded, drawn, strict=True))
    return {
        "low": [scale.low for scale in coded],
        "high": [scale.high for scale in coded],
        "view": [[scale.low, scale.high] for scale in scales],
        "ticks": [
            [asdict(tick) for tick in ticks(scale.low, scale.high, room=room)] for scale in scales
        ],
        "codes": base64.b64encode(codes).decode("ascii"),
    }


def _marks(times: np.ndarray, training_times: Sequence[float]) -> list[float]:
    """Where the training times lie along a slider whose steps are equal, whatever the times."""
    if len(times) < 2:
        return []
    places = np.interp(list(training_times), times, np.linspace(0, 100, len(times)))
    return [round(float(place), 3) for place in places]


def _phases(times: np.ndarray, training_times: Sequence[float]) -> list[str]:
    if not training_times:
        return [""] * len(times)
    trained = np.array(training_times)
    slack = time_slack(np.unique([*times, *trained])) if len(times) > 1 else time_slack(trained)

    def phase(time: float) -> str:
        if np.abs(trained - time).min() <= slack:
            return "a training time"
        return "beyond the training times" if time > trained.max() else "not trained on"

    return [phase(time) for time in times]


def _axis_label(variable: Variable, index: int) -> str:
    name = variable.axes[index]
    label = variable.forecast[name].attrs.get("long_name", name) if variable.is_function else name
    unit = unit_of(str(variable.forecast[name].attrs.get("units", "")))
    return f"{label} [{unit.strip()}]" if unit else str(label)
