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
    if abs(value) >= 999_999.5:
        return f"{plain(value, 3)}\u00a0%"
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


SUPERSCRIPTS = str.maketrans(
    "-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"
)


def plain(value: float, digits: int = 6) -> str:
    """A time, a coordinate, a parameter: as short as its digits allow, 0 without a sign."""
    mantissa, _, exponent = f"{value + 0.0:.{digits}g}".partition("e")
    if exponent:
        power = f"10{str(int(exponent)).translate(SUPERSCRIPTS)}"
        times = mantissa.removesuffix("1") if mantissa in ("1", "-1") else f"{mantissa}\u00b7"
        mantissa = f"{times}{power}"
    return mantissa.replace("-", "\u2212")


def digits_apart(values: Sequence[float], least: int = 6) -> int:
    """How many digits tell neighbours of a row apart, and show how far apart they are."""
    gaps = [abs(b - a) for a, b in zip(values, values[1:], strict=False) if a != b]
    # A tick that is 290.00125 and reads 290.001 would be in the wrong place.
    slack = 0.01 * min(gaps, default=math.inf)
    return next(
        (n for n in range(least, 15) if all(abs(float(f"{v:.{n}g}") - v) <= slack for v in values)),
        15,
    )


def plain_apart(values: Sequence[float], least: int = 6) -> list[str]:
    """Numbers in a row, with the digits that tell neighbours apart: `290.0001`, `290.0002`."""
    digits = digits_apart(values, least)
    return [plain(value, digits) for value in values]


def listing(values: Sequence[float], digits: int = 6) -> str:
    """Numbers in a row, whole runs joined: `0-4`, `5, 7, 9`, `0.05, 0.1, ..., 0.35 (7)`."""
    if len(values) > 2 and all(b - a == 1 for a, b in zip(values, values[1:], strict=False)):
        return f"{plain(values[0], digits)}\u2013{plain(values[-1], digits)}"
    if len(values) > 6:
        first, second, last = (plain(values[i], digits) for i in (0, 1, -1))
        return f"{first}, {second}, \u2026, {last} ({len(values)})"
    return ", ".join(plain(value, digits) for value in values)


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
    return "" if units.strip() in ("", "1", "-") else f"\u00a0{printable(units.strip())}"


def printable(text: str) -> str:
    """Text that a figure can show: what is not printable is a replacement character."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def _thousands(value: float) -> str:
    return f"{round(value):,}"
