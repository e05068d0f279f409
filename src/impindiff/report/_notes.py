"""What a reader of the pictures must be told: what they leave out, clip or cannot show."""

from collections.abc import Sequence

import numpy as np

from impindiff.report._codes import Scale
from impindiff.report._format import plain, plain_apart, unit_of
from impindiff.report._frames import Frames, Selection, Variable, middle_plane


def remarks_on(
    variable: Variable, frames: Frames, scales: Sequence[Scale], error_scales: Sequence[Scale]
) -> str:
    """What to know about the pictures of one variable; the scales are those of its samples."""
    is_map = len(frames.axes) > 1
    unit = unit_of(str(variable.forecast.attrs.get("units", "")))
    remarks = []
    if variable.is_function:
        remarks.append("A learned function, over the range in which its inputs are expected.")
    if plane := middle_plane(variable):
        remarks.append(f"A slice through the middle of the domain, {plane}.")
    if frames.drawn_aspect != frames.aspect:
        remarks.append("Width and height are not to scale.")
    if frames.truth is None:
        is_field = "sample" in variable.forecast.dims
        known = "data stand" if is_field else "truth stands"
        remarks.append(f"No {known} beside it, so no error can be drawn.")
    if beyond := _beyond(frames.forecast, scales):
        low, high = plain_apart(beyond, least=3)
        what = "the colours end earlier" if is_map else "the axis ends earlier"
        guess = "forecast" if "sample" in variable.forecast.dims else "inferred"
        remarks.append(f"The {guess} values reach from {low} to {high}{unit}; {what}.")
    if frames.truth is not None and error_scales:
        with np.errstate(invalid="ignore", over="ignore"):
            errors = frames.forecast.astype(np.float64) - frames.truth
        if beyond := _beyond(errors, error_scales):
            most = plain(float(f"{max(map(abs, beyond)):.3g}"))
            remarks.append(f"The errors reach {most}{unit}; their colours end earlier.")
    known = np.isfinite(frames.forecast).all()
    if not (known and (frames.truth is None or np.isfinite(frames.truth).all())):
        remarks.append("Hatched: no value." if is_map else "Gaps: no value.")
    return " ".join(remarks)


def left_out(variables: Sequence[Variable], selection: Selection) -> str:
    """Which samples, times and cells are not shown, if any."""
    shown = {"sample": len(selection.samples), "time": len(selection.times)}
    parts = []
    for name, num_shown in shown.items():
        size = max(v.forecast.sizes.get(name, 1) if v.axes != [name] else 1 for v in variables)
        if size > num_shown:
            parts.append(f"{num_shown} of {size} {name}s")
    maps = [variable for variable in variables if len(variable.axes) > 1]
    if any(v.forecast.sizes[axis] > selection.max_pixels for v in maps for axis in v.axes[:2]):
        parts.append(f"at most {selection.max_pixels} cells along an axis")
    return f"Shown to keep this page small: {', '.join(parts)}." if parts else ""


def _beyond(samples: np.ndarray, scales: Sequence[Scale]) -> tuple[float, float] | None:
    """The least and the largest value of the samples, if those of some leave their scale."""
    ends, leaves = [], False
    for values, scale in zip(samples, scales, strict=True):
        known = values[np.isfinite(values)].astype(np.float64)
        if known.size:
            low, high = float(known.min()), float(known.max())
            # Less than a reader could tell from the colour of the end.
            slack = 0.05 * (scale.high - scale.low)
            leaves |= low < scale.low - slack or high > scale.high + slack
            ends += [low, high]
    return (min(ends), max(ends)) if leaves else None
