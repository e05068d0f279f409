"""What a reader of the pictures must be told: what they leave out, clip or cannot show."""

from collections.abc import Sequence

import numpy as np

from impindiff.report._codes import Scale
from impindiff.report._frames import Frames, Selection, Variable, middle_plane


def remarks_on(variable: Variable, frames: Frames, scales: Sequence[Scale]) -> str:
    """What to know about the pictures of one variable; `scales` are those of its samples."""
    remarks = []
    if variable.is_function:
        remarks.append("A learned function, over the range in which its inputs are expected.")
    if plane := middle_plane(variable):
        remarks.append(f"A slice through the middle of the domain, {plane}.")
    if frames.drawn_aspect != frames.aspect:
        remarks.append("Width and height are not to scale.")
    if frames.truth is None:
        remarks.append("The truth is not known here, so no error can be shown.")
    if any(_overflows(part, scale) for part, scale in zip(frames.forecast, scales, strict=True)):
        remarks.append("Values beyond the scale take the value of its end.")
    known = np.isfinite(frames.forecast).all()
    if not (known and (frames.truth is None or np.isfinite(frames.truth).all())):
        remarks.append("Hatched: no value." if len(frames.axes) > 1 else "Gaps: no value.")
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


def _overflows(values: np.ndarray, scale: Scale) -> bool:
    known = values[np.isfinite(values)]
    return bool(known.size) and bool(known.min() < scale.low or known.max() > scale.high)
