r"""The order in which steps are recomputed when only a few states can be kept.

With room for $s$ states, the first included, $n$ steps are reversed by at least

$$ t(n, s) = r\,n - \binom{s + r}{r - 1}, \qquad r = \min\{r : \tbinom{s + r}{s} \ge n\}, $$

steps forward, the first sweep among them and the last step of each reversal not. This file finds
an order that attains it, for any $n$ and $s$.

Reference: Griewank & Walther, ACM Trans. Math. Software 26 (2000) 19 (revolve).
"""

from math import comb
from typing import NamedTuple

import numpy as np


class Action(NamedTuple):
    """One thing to do: go forward and keep what is reached, or go back over one step.

    Attributes:
        is_reversal: go back over step `first`, whose starting state is in `source`.
        source: slot to begin from.
        first: number of the step to begin with.
        last: number of the step before which to stop; without meaning in a reversal.
        target: slot to keep the state in that is reached. Without meaning in a reversal.
    """

    is_reversal: bool
    source: int
    first: int
    last: int
    target: int


def least_steps(num_steps: int, snapshots: int) -> int:
    """$t(n, s)$: the fewest steps forward that reversing so many steps takes.

    Args:
        num_steps: $n$.
        snapshots: $s$, the state at the start included.
    """
    if num_steps <= 1:
        return 0
    sweeps = _sweeps(num_steps, snapshots)
    return sweeps * num_steps - comb(snapshots + sweeps, sweeps - 1)


def first_snapshots(num_steps: int, snapshots: int) -> list[int]:
    """The steps before which the first sweep keeps the state, from slot 0 on."""
    kept, start, free = [0], 0, snapshots - 1
    while free and num_steps - start > 1:
        start += _split(num_steps - start, free + 1)
        kept.append(start)
        free -= 1
    return kept


def reversal(num_steps: int, snapshots: int) -> list[Action]:
    """What to do after the first sweep.

    That sweep kept `first_snapshots` in the first slots, and the state before the last step in one
    slot more, numbered `snapshots`: there go states that only the next reversal wants.
    """
    actions: list[Action] = []
    # Segments still to be reversed, the next one on top: start, end, slot of the start's state.
    kept = first_snapshots(num_steps, snapshots)
    ends = [*kept[1:], num_steps]
    segments = [
        (start, end, slot) for slot, (start, end) in enumerate(zip(kept, ends, strict=True))
    ]
    while segments:
        start, end, slot = segments.pop()
        while end - start > 1 and slot + 1 < snapshots:
            middle = start + _split(end - start, snapshots - slot)
            actions.append(Action(False, slot, start, middle, slot + 1))
            segments.append((start, middle, slot))
            start, slot = middle, slot + 1
        for step in range(end - 1, start, -1):
            actions.append(Action(False, slot, start, step, snapshots))
            actions.append(Action(True, snapshots, step, step, snapshots))
        actions.append(Action(True, slot, start, start, snapshots))
    # The first sweep has been there.
    return actions if actions[0].is_reversal else actions[1:]


def columns(actions: list[Action]) -> tuple[np.ndarray, ...]:
    """The actions as arrays, an attribute each."""
    return tuple(np.asarray(column) for column in zip(*actions, strict=True))


def _sweeps(num_steps: int, snapshots: int) -> int:
    """$r$: how often the most repeated step is taken."""
    sweeps = 0
    while comb(snapshots + sweeps, snapshots) < num_steps:
        sweeps += 1
    return sweeps


def _split(num_steps: int, snapshots: int) -> int:
    """How far to go before the next state is kept.

    $m + t(n - m, s - 1) + t(m, s)$ is convex in $m$, for $t$ is in $n$, and the slope of $t$ at $n$
    is the number of sweeps for $n + 1$: the least lies where the slope changes its sign.
    """
    low, high = 1, num_steps - 1
    while low < high:
        middle = (low + high) // 2
        slope = 1 + _sweeps(middle + 1, snapshots) - _sweeps(num_steps - middle, snapshots - 1)
        low, high = (low, middle) if slope >= 0 else (middle + 1, high)
    return low
