"""States that cannot be: fields beyond their bounds.

A solver may find a root of the equations that is no state of the thing they describe: a porosity
above one, a negative concentration. Nothing is clipped, which would hide it: such a state is
refused, or its step fails (`StepResult.OUT_OF_BOUNDS`).
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from impindiff._errors import InputError
from impindiff._types import State
from impindiff.grid import Grid
from impindiff.integrate import Bounds, BoundsViolation

# Of noise with a normal distribution, one reading in three million lies beyond.
_SPREADS = 5.0


def bounds_violation(
    state: State, limits: tuple[Bounds, ...], grid: Grid | None
) -> BoundsViolation | None:
    """How a state violates the bounds of its fields; None where none has any.

    What is not a number leaves none: it has failed otherwise. Nor does the value in a solid cell,
    which stands for nothing.
    """
    limits = tuple(limit for limit in limits if limit.name in state)
    if not limits:
        return None
    solid = None if grid is None else grid.solid
    distances, values = [], []
    for limit in limits:
        value = jax.lax.stop_gradient(state[limit.name])
        beyond = jnp.maximum(limit.lower - value, value - limit.upper)
        inside = jnp.isnan(beyond) if solid is None else jnp.isnan(beyond) | solid
        distances.append(jnp.where(inside, -jnp.inf, beyond).ravel())
        values.append(value.ravel())
    cells = [jnp.argmax(distance) for distance in distances]
    outside = jnp.stack([d[cell] > 0 for d, cell in zip(distances, cells, strict=True)])
    number = jnp.argmax(outside)
    found = jnp.stack([value[cell] for value, cell in zip(values, cells, strict=True)])
    shapes = tuple(jnp.shape(state[limit.name]) for limit in limits)
    cell, value = jnp.stack(cells)[number], found[number]
    return BoundsViolation(outside.any(), number, cell, value, value, limits, shapes)


def check_within(
    limits: Sequence[Bounds],
    grid: Grid | None,
    states: Mapping[str, Array | np.ndarray],
    time: float,
    samples: Sequence[int] | np.ndarray,
) -> None:
    """Refuse samples that start outside of the limits of their fields.

    Args:
        limits: of the fields.
        grid: of the fields; None without.
        states: of each field `(sample, *grid)`.
        time: where they start.
        samples: their ids.

    Raises: InputError for the first, with field, value, sample, time, cell and what is allowed.
    """
    for limit in limits:
        if limit.name not in states:
            continue
        values = np.asarray(states[limit.name])
        wrong = (values < limit.lower) | (values > limit.upper)
        if grid is not None and grid.solid is not None:
            wrong &= ~grid.solid
        if wrong.any():
            sample, *cell = (int(k) for k in np.argwhere(wrong)[0])
            message = limit.message(float(values[sample, *cell]), tuple(cell))
            raise InputError(
                f"at t = {time:.10g}, where it starts, sample {samples[sample]} is outside of what "
                f"the system allows: {message} (as are {wrong.sum()} of {wrong.size} values). "
                "Correct the data, leave the sample out, or widen Field(..., bounds=...)."
            )


def check_readings(
    limit: Bounds,
    name: str,
    values: Array | np.ndarray,
    deviations: Array | np.ndarray | None,
    times: Sequence[float],
    samples: Sequence[int] | np.ndarray,
) -> None:
    """Refuse readings of a field that lie farther outside of its limits than noise carries them.

    Farther than five standard deviations, where these are known; at all, where they are not.

    Args:
        limit: of the field.
        name: of the readings.
        values: `(sample, time, ...)`, NaN where nothing was read.
        deviations: of the readings; None where not known.
        times: of the readings.
        samples: their ids.

    Raises: InputError for the first.
    """
    slack = 0.0 if deviations is None else _SPREADS * np.nan_to_num(np.asarray(deviations))
    values = np.asarray(values)
    wrong = (values < limit.lower - slack) | (values > limit.upper + slack)
    if not wrong.any():
        return
    sample, moment, *place = (int(k) for k in np.argwhere(wrong)[0])
    is_other = name != limit.name
    of = f"the readings {name!r} of " if is_other else ""
    message = limit.message(float(values[sample, moment, *place]), tuple(place), "reading")
    about_noise = (
        "no noise is stated, so none is allowed for: if it is noise, say how large, as in "
        f"Cells({limit.name!r}, {f'{name!r}, ' * is_other}noise=...)"
        if deviations is None
        else f"that is more than {_SPREADS:g} standard deviations of the noise stated"
    )
    raise InputError(
        f"{of}sample {samples[sample]} at t = {times[moment]:.10g}: {message} (as are "
        f"{wrong.sum()} of {wrong.size} readings); {about_noise}. Mark what is no datum as NaN, or "
        "widen Field(..., bounds=...)."
    )
