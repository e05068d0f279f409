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

from impindiff.report._codes import Scale, Tick, error_scale, ticks, value_scale
from impindiff.report._format import plain, unit_of
from impindiff.report._frames import Frames, Selection, Variable, frames_of, select
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
    aspect: float
    x: Axis
    y: Axis | None
    note: str


@dataclass(frozen=True)
class Viewer:
    """Rows that share a time slider and a choice of sample.

    Args:
        rows: a variable each.
        times: labels of the times shown; `samples` likewise.
        marks: places of the training times along the slider, in percent.
        note: what was left out, if anything.
        payload: all that the script needs, ready for JSON.
    """

    rows: list[Row]
    times: list[str]
    samples: list[str]
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
    labels = [f"{plain(time)}{unit}" for time in times]
    return Viewer(
        rows=list(rows),
        times=labels,
        samples=samples,
        marks=_marks(times, training_times),
        note=left_out(variables, selection),
        payload={
            "times": [
                {"value": float(time), "label": label, "phase": _phase(time, training_times)}
                for time, label in zip(times, labels, strict=True)
            ],
            "samples": samples,
            "rows": list(data),
        },
    )


def _row(variable: Variable, selection: Selection) -> tuple[Row, dict[str, Any]]:
    frames = frames_of(variable, selection)
    scales, panels, errors = _pictures(frames)
    is_map = len(frames.axes) > 1
    unit = unit_of(str(variable.forecast.attrs.get("units", "")))
    row = Row(
        name=variable.name,
        long_name=str(variable.forecast.attrs.get("long_name", "")),
        unit=unit.strip(),
        is_map=is_map,
        has_truth=frames.truth is not None,
        aspect=frames.drawn_aspect,
        x=Axis(_axis_label(variable, 0), frames.axes[0].ticks(3 if frames.aspect > 0.3 else 1)),
        y=Axis(_axis_label(variable, 1), frames.axes[1].ticks(3)) if is_map else None,
        note=remarks_on(variable, frames, scales),
    )
    return row, {
        "size": [*frames.forecast.shape[2:], 1][:2],
        "shape": list(frames.forecast.shape[:2]),
        "missing": scales[0].missing,
        "bounds": [[axis.low, axis.high] for axis in frames.axes],
        "axes": [str(name) for name in variable.axes[:2]],
        "unit": unit,
        "errors": errors,
        "panels": panels,
    }


def _pictures(
    frames: Frames,
) -> tuple[list[Scale], dict[str, Any], list[list[float | None]] | None]:
    """The scales of the samples, the panels by role, and the error of each frame [%]."""
    forecast, truth = frames.forecast, frames.truth
    missing = _MAP_MISSING if len(frames.axes) > 1 else _CURVE_MISSING
    if truth is None:
        scales = [value_scale(None, part, missing) for part in forecast]
        return scales, {"forecast": _panel(forecast, scales)}, None
    scales = [value_scale(*pair, missing) for pair in zip(truth, forecast, strict=True)]
    with np.errstate(invalid="ignore", over="ignore"):
        difference = forecast - truth
    panels = {
        "truth": _panel(truth, scales),
        "forecast": _panel(forecast, scales),
        "error": _panel(difference, [error_scale(part, missing) for part in difference]),
    }
    return scales, panels, _relative_l1(difference, truth)


def _panel(values: np.ndarray, scales: Sequence[Scale]) -> dict[str, Any]:
    # Maps row by row from the top, as a screen is filled: x to the right, y up.
    drawn = values if values.ndim == 3 else values.swapaxes(2, 3)[:, :, ::-1]
    codes = b"".join(scale.encode(part) for scale, part in zip(scales, drawn, strict=True))
    return {
        "low": [scale.low for scale in scales],
        "high": [scale.high for scale in scales],
        "ticks": [[asdict(tick) for tick in ticks(scale.low, scale.high)] for scale in scales],
        "codes": base64.b64encode(codes).decode("ascii"),
    }


def _relative_l1(difference: np.ndarray, truth: np.ndarray) -> list[list[float | None]]:
    """The error of each frame [%], over the cells where the truth is known."""
    axes = tuple(range(2, difference.ndim))
    known = np.isfinite(truth)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        total = np.where(known, np.abs(difference), 0).sum(axes)
        percents = 100 * total / np.where(known, np.abs(truth), 0).sum(axes)
    return [[float(p) if math.isfinite(p) else None for p in row] for row in percents.tolist()]


def _marks(times: np.ndarray, training_times: Sequence[float]) -> list[float]:
    """Where the training times lie along a slider whose steps are equal, whatever the times."""
    if len(times) < 2:
        return []
    places = np.interp(list(training_times), times, np.linspace(0, 100, len(times)))
    return [round(float(place), 3) for place in places]


def _phase(time: float, training_times: Sequence[float]) -> str:
    if not training_times:
        return ""
    if any(math.isclose(time, other, rel_tol=1e-4, abs_tol=1e-9) for other in training_times):
        return "a training time"
    return "beyond the training times" if time > max(training_times) else "not trained on"


def _axis_label(variable: Variable, index: int) -> str:
    name = variable.axes[index]
    label = variable.forecast[name].attrs.get("long_name", name) if variable.is_function else name
    unit = unit_of(str(variable.forecast[name].attrs.get("units", "")))
    return f"{label} [{unit.strip()}]" if unit else str(label)
