"""What a rollout keeps of its states for the gradient, and amounts of memory as text."""

import re
from functools import partial
from typing import final

import equinox as eqx

from impindiff._errors import InputError, as_count

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


@final
class KeepAll(eqx.Module):
    """Keep the state of every step: nothing is computed twice; memory grows with the steps.

    Every mode of differentiation. What is kept is what JAX keeps: both ends of a Crank-Nicolson
    step, all stages of an explicit one. `Snapshots` of as many states as there are steps keeps one
    for each step, and computes no step again either.
    """


@final
class Snapshots(eqx.Module):
    r"""Keep so many states at a time, and compute the others again, in the binomial order.

    No order needs fewer steps for as many states (revolve): with $s$ of them, at most $r$ sweeps
    over up to $\binom{s + r}{s}$ steps. A step that is taken again for its derivative is not solved
    again, since where it ends is known by then; the stages of an explicit one are.

    Reverse mode, and forward mode over it as in Hessian-vector products. Forward mode alone (`jvp`)
    keeps no states; use `KeepAll` for it.

    Args:
        count: states kept, the one at the start included.

    Raises: InputError for none.
    Reference: Griewank & Walther, ACM Trans. Math. Software 26 (2000) 19.
    """

    count: int = eqx.field(
        static=True,
        converter=partial(
            as_count, what="the number of Snapshots, that at the start among them,", least=1
        ),
    )


@final
class MemoryBudget(eqx.Module):
    """Stay below so many bytes: keep all, or else as many snapshots as fit.

    How many is found from what XLA reports of the compiled gradient, before anything is computed.
    The budget is for that gradient: its arguments, results and temporaries, all samples together.

    Args:
        num_bytes: a number, or text such as `"2GiB"`.

    Raises: InputError for what is no amount of memory.
    """

    num_bytes: int = eqx.field(static=True, converter=parse_bytes)


MemoryPolicy = KeepAll | Snapshots
KEEP_ALL = KeepAll()
