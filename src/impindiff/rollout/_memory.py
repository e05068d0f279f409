"""What a rollout keeps of its states for the gradient."""

from typing import final

import equinox as eqx

from impindiff._errors import InputError
from impindiff.rollout._bytes import parse_bytes


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

    count: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        """Refuse to keep nothing."""
        if self.count < 1:
            raise InputError(
                f"Snapshots({self.count}): at least 1 must be kept, that at the start."
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
