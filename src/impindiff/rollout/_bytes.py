"""Amounts of memory as people write them."""

import re

from impindiff._errors import InputError

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {f"{prefix}IB": 2 ** (10 * power) for power, prefix in enumerate("KMGT", start=1)}


def parse_bytes(amount: int | str) -> int:
    """A number of bytes, given as such or as `2GiB`, `512 MiB`, `1.5 GB`.

    Raises: InputError for what is not an amount, or not positive.
    """
    if isinstance(amount, int) and not isinstance(amount, bool) and amount > 0:
        return amount
    matched = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", str(amount))
    unit = _UNITS.get((matched[2] or "B").upper()) if matched else None
    parsed = int(float(matched[1]) * unit) if matched and unit else 0
    if isinstance(amount, bool) or parsed < 1:
        raise InputError(
            f"{amount!r} is no amount of memory: give a positive number of bytes, or one with a "
            "unit (KiB, MiB, GiB, TiB, KB, MB, GB, TB), such as 2GiB."
        )
    return parsed


def format_bytes(amount: float) -> str:
    """In powers of 1024: `612 MiB`, `2.70 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 999.5:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.3g} {unit}"
        amount /= 1024
    return f"{amount:.3g} TiB"
