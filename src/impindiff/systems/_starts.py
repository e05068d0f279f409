"""When and where samples start, as far as their system says so.

Initial values that the system gives hold at one time, and only the user knows which. Data that
begin at t = 0 leave no doubt, and neither does a forecast, which notes when it began. Elsewhere the
time must be named: to take the first time of the data for it would give rates that are wrong by
whatever happened before.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array

from impindiff._errors import InputError
from impindiff._types import State
from impindiff.coefficients import depends_on
from impindiff.data import Start, begun_of, instant, source_of, start_of, time_slack, times_of
from impindiff.latent import latents_of
from impindiff.systems._prepared import PreparedSystem
from impindiff.systems._scope import TIME, reached_names
from impindiff.systems._system import System

S = TypeVar("S", System, PreparedSystem)


class InitialTime(NamedTuple):
    """When simulations begin.

    Attributes:
        position: among the data's times; None where it is none of them.
        time: the time.
    """

    position: int | None
    time: float


def initial_time(system: System, dataset: xr.Dataset, start: Start | None) -> InitialTime:
    """When simulations of some data begin.

    Args:
        system: the equations, which may give initial values of fields.
        dataset: the data.
        start: "first", "last", or the time itself, which need not be one of the data's where the
            system gives the initial values of all fields. None for the first of the data, unless
            the system gives initial values: these hold at the time that the attribute `begun` of
            the data names, or at t = 0 if the data begin there. Data that hold nothing
            say when simulations begin, by their first time, and nothing else.

    Raises: InputError for a start that is not known, or one at which some fields are not.
    """
    first = start_of(dataset)
    clock = times_of(dataset)
    constant = [f for f, part in system.initial.items() if not depends_on(part, {TIME})]
    from_data = [field for field in system.fields if field not in system.initial]
    if start is None:
        holds_nothing = not any("time" in u.dims for u in dataset.values())
        if not constant or holds_nothing:
            return InitialTime(*first)
        known = begun_of(dataset, 0)
        known = known if known is not None else 0.0 if first[1] == 0 else None
        if known is None:
            raise InputError(_unknown_start(source_of(dataset), constant, first[1]))
        start = known
    if isinstance(start, str) and start not in ("first", "last"):
        start = _number(start)
    if isinstance(start, str) or from_data:
        try:
            return InitialTime(*start_of(dataset, start))
        except InputError as error:
            if isinstance(start, str) or not system.initial:
                raise
            raise InputError(
                f"{error} Simulations begin at one time: the system gives the initial values of "
                f"{_listed(constant)}, which hold at t = {instant(start):.12g}, but those of "
                f"{_listed(from_data)} are taken from the data, which begin at t = "
                f"{clock[0]:.12g}. Give start= as one of their times if all hold then, or the "
                "others by the system too, Field(..., initial=...)."
            ) from None
    time = instant(start)
    if not np.isfinite(time):
        raise InputError(f"start is {time}: it must be a finite time.")
    slack = time_slack(clock)
    nearest = int(np.abs(clock - time).argmin())
    return InitialTime(nearest if abs(clock[nearest] - time) <= slack else None, time)


def _unknown_start(source: str, fields: list[str], first: float) -> str:
    return (
        f"{source}: the system gives the initial values of {_listed(fields)}, "
        f"Field(..., initial=...), and the data begin at t = {first:.12g}: nothing says when these "
        "values hold. Give start=0 if they hold at t = 0, from where simulations then go to the "
        f"data, or start={first:.12g} if they hold at the data's first time; in a config, "
        "time.start."
    )


def _number(start: str) -> Start:
    """A time as the command line gives it; what is no number is refused as text."""
    try:
        return float(start)
    except ValueError:
        return start


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names))


def starts_of(
    system: S, start: Callable[[S], State], sample_parameters: Mapping[str, Array], count: int
) -> State:
    """The initial values that a system gives, of many samples: `(sample, *grid)` for each field.

    Args:
        system: the equations, which may give none.
        start: those of one sample, by its system: `lambda one: one.start(time, dtype)`.
        sample_parameters: the sample parameters that the system misses, `(sample,)` each.
        count: how many samples.
    """
    if not system.initial:
        return {}
    if system.missing_parameters:
        return jax.vmap(lambda values: start(system.with_sample_parameters(values)))(
            sample_parameters
        )
    return {f: jnp.broadcast_to(u, (count, *u.shape)) for f, u in start(system).items()}


def learned_starts(system: System) -> tuple[str, ...]:
    """The fields whose initial values follow from something that is to be learned."""
    holding = {name for name, part in system.coefficients.items() if latents_of(part)}
    reached = reached_names(system.coefficients)
    unknown = holding | {name for name, names in reached.items() if names & holding}
    return tuple(
        field
        for field, part in system.initial.items()
        if latents_of(part) or depends_on(part, unknown)
    )
