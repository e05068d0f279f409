"""Windows of observed times, each beginning at an observed state."""

import numpy as np
from jaxtyping import Array

from impindiff._errors import InputError
from impindiff.rollout import TimeGrid
from impindiff.train._observations import Observations


def window_grids(observations: Observations, dt: float, window: int) -> list[TimeGrid]:
    """The steps of every window of so many observed times; as many in each."""
    if window == len(observations.times):
        return [observations.time_grid(dt)]
    clock = (observations.start, *observations.times)
    whole = observations.time_grid(dt)
    # As many steps in each: programs have shapes.
    most = max(
        TimeGrid.build(start, end, dt).num_steps
        for start, end in zip(clock, clock[1:], strict=False)
    )
    return [
        TimeGrid.even(clock[first], np.array(clock[first + 1 : first + 1 + window]), most, whole)
        for first in range(len(clock) - window)
    ]


def later_starts(observations: Observations, field: str, num_windows: int) -> Array:
    """The observed states at which the windows after the first begin, `(sample, window, *grid)`.

    Raises: InputError for a field that is not observed itself, or not everywhere, or times that
        were observed more than once.
    """
    if num_windows == 1:
        return observations.initial[field][:, None][:, :0]
    if observations.rows:
        raise InputError(
            "some times were observed more than once, and a window begins at one observed state: "
            "leave the window out, so that all times are predicted from the initial state."
        )
    if field not in observations.observed or field in observations.operators:
        raise InputError(
            f"windows begin at observed states, but {field!r} is not observed cell by cell "
            f"(observed are {', '.join(map(repr, observations.observed))}). Leave the window out, "
            "so that all times are predicted from the initial state."
        )
    states = observations.observed[field][:, : num_windows - 1]
    if (unknown := np.isnan(np.asarray(states))).any():
        sample, time = np.argwhere(unknown)[0][:2]
        raise InputError(
            f"a window would begin at t = {observations.times[time]:.10g}, but there {field!r} of "
            f"training sample {sample} was not observed in every cell. Leave the window out, "
            "so that all times are predicted from the initial state."
        )
    return states
