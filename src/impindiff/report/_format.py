"""Numbers as a reader wants them: three digits, a unit that fits, lists without repetition.

A number and its unit are held together by a no-break space.
"""

import math
from collections.abc import Sequence


def percent(value: float) -> str:
    """An error in percent: `0.117 %`, `12.3 %`, `< 0.001 %`."""
    if not math.isfinite(value):
        return "not finite"
    if 0 < abs(value) < 0.001:
        return "<\u00a00.001\u00a0%"
    return f"{value:.3g}\u00a0%" if abs(value) < 999.5 else f"{_thousands(value)}\u00a0%"


def duration(seconds: float) -> str:
    """A time span: `0.84 s`, `34.2 s`, `5 min 12 s`, `1 h 03 min`."""
    if not math.isfinite(seconds):
        return "not known"
    if seconds < 59.95:
        return f"{seconds:.3g}\u00a0s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}\u00a0min {rest:02d}\u00a0s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,}\u00a0h {minutes:02d}\u00a0min"


def data_size(num_bytes: float) -> str:
    """An amount of memory, in powers of 1024: `612 MiB`, `2.70 GiB`."""
    if not math.isfinite(num_bytes):
        return "not known"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(num_bytes) < 999.5:
            return f"{num_bytes:.3g}\u00a0{unit}"
        num_bytes /= 1024
    return f"{num_bytes:.3g}\u00a0TiB"


def count(value: float) -> str:
    """A whole number with its thousands apart: `33,538`."""
    return _thousands(value) if math.isfinite(value) else "not known"


def plain(value: float) -> str:
    """A time, a coordinate, a parameter: as short as six digits allow, 0 without a sign."""
    return f"{value + 0.0:.6g}".replace("-", "\u2212")


def listing(values: Sequence[float]) -> str:
    """Numbers in a row, whole runs joined: `0-4`, `5, 7, 9`, `0.05, 0.1, ..., 0.35 (7)`."""
    if len(values) > 2 and all(b - a == 1 for a, b in zip(values, values[1:], strict=False)):
        return f"{plain(values[0])}\u2013{plain(values[-1])}"
    if len(values) > 6:
        first, second, last = (plain(values[i]) for i in (0, 1, -1))
        return f"{first}, {second}, \u2026, {last} ({len(values)})"
    return ", ".join(plain(value) for value in values)


def spans(numbers: Sequence[int]) -> str:
    """Whole numbers that rise, runs of them joined: `3 to 5, 8`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{p[0]} to {p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)


def unit_of(units: str) -> str:
    """A unit to put behind a number, with its space before it; nothing for a pure number."""
    return "" if units.strip() in ("", "1", "-") else f"\u00a0{units.strip()}"


def _thousands(value: float) -> str:
    return f"{round(value):,}"
