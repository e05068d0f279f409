"""How exact steps are to be that follow their error, and what advances them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import jax.numpy as jnp
import numpy as np

from impindiff._dates import as_seconds
from impindiff._errors import InputError, as_count, as_number
from impindiff.integrate import ESDIRK4, AbstractStepper, CrankNicolson, check_is_stepper
from impindiff.rollout._step_error import ROUND_OFF_UNITS
from impindiff.rollout._times import check_time_step

_BY_PRECISION = {jnp.dtype(jnp.float32): 1e-4, jnp.dtype(jnp.float64): 1e-6}


@final
@dataclass(frozen=True)
class StepControl:
    """How exact steps are to be that choose their own length.

    Args:
        rtol: error of a step, relative to the field's scale or, where it has none, to how far it
            ranges at the start and has moved since. By default 1e-4 in float32, 1e-6 in float64.
        atol: absolute tolerances, one for all fields or by name. Where given, the error allowed in
            a field is `atol` + `rtol` |u|.
        max_dt: the longest step.
        max_steps: at most so many steps, refused ones not counted.
        breakpoints: times at which the right-hand side jumps or has a kink, numbers or dates as
            those of the rollout. A step just before each of them is followed by one just after it.

    Raises: InputError for tolerances that are not positive, or not below 1, and numbers that are
        none.
    """

    rtol: float | None = None
    atol: float | Mapping[str, float] | None = None
    max_dt: float = float("inf")
    max_steps: int = 10_000
    breakpoints: float | Sequence[float] | np.ndarray = ()

    def __post_init__(self) -> None:
        """Refuse tolerances that no step can meet."""
        if self.rtol is not None and not 0 < as_number(self.rtol, "rtol of StepControl") < 1:
            raise InputError(
                f"StepControl(rtol={self.rtol:g}): a relative tolerance lies between 0 and 1, such "
                "as 1e-4."
            )
        given = self.atol if isinstance(self.atol, Mapping) else {"atol": self.atol}
        for name, value in given.items():
            if value is not None and not as_number(value, f"atol of {name!r}") > 0:
                raise InputError(
                    f"StepControl(atol={self.atol}): an absolute tolerance is positive, in the "
                    "field's units."
                )
        if not as_number(self.max_dt, "max_dt of StepControl") > 0:
            raise InputError(f"StepControl(max_dt={self.max_dt:g}): steps are longer than zero.")
        if as_count(self.max_steps, "max_steps of StepControl") < 1:
            raise InputError("StepControl(max_steps=0): at least one step must be allowed.")
        given = self.breakpoints
        jumps = np.atleast_1d(as_seconds(given)) if np.size(given) else np.empty(0)
        if jumps.ndim > 1 or not np.isfinite(jumps).all():
            raise InputError(
                f"StepControl(breakpoints={given!r:.80}): give finite times, one or a list of them."
            )
        object.__setattr__(self, "breakpoints", tuple(jumps.tolist()))

    def relative(self, dtype: jnp.dtype) -> float:
        """The relative tolerance, by precision where none is given.

        Raises: InputError for one below round-off.
        """
        rtol = _BY_PRECISION.get(jnp.dtype(dtype), 1e-4) if self.rtol is None else self.rtol
        least = _least_rtol(dtype)
        if rtol < least:
            raise InputError(
                f"StepControl(rtol={rtol:g}) is below the round-off of {jnp.dtype(dtype)}, "
                f"{least:.1g}: raise it, or compute in double precision."
            )
        return rtol

    def tightened(self, factor: float, dtype: jnp.dtype) -> "StepControl":
        """The same with tolerances times a factor, but none below round-off."""
        atol = self.atol
        if atol is not None:
            atol = (
                {name: factor * value for name, value in atol.items()}
                if isinstance(atol, Mapping)
                else factor * atol
            )
        rtol = max(factor * self.relative(dtype), _least_rtol(dtype))
        return replace(self, rtol=rtol, atol=atol)

    def absolute(self, fields: Sequence[str]) -> dict[str, float]:
        """The absolute tolerance of each field that has one.

        Raises: InputError for a name that is no field.
        """
        if self.atol is None:
            return {}
        if not isinstance(self.atol, Mapping):
            return dict.fromkeys(fields, float(self.atol))
        if unknown := sorted(set(self.atol) - set(fields)):
            raise InputError(
                f"StepControl(atol=...) names {unknown[0]!r}: an error is estimated in the fields "
                f"{', '.join(map(repr, fields))}."
            )
        return {name: float(value) for name, value in self.atol.items()}


def check_is_control(control: Any) -> None:
    """Refuse what is no control of steps, such as a tolerance alone.

    Raises: InputError.
    """
    if not isinstance(control, StepControl):
        raise InputError(f"control is {control!r:.60}: give StepControl(rtol=1e-4), say.")


def stepper_for(
    dt: float | None, stepper: AbstractStepper | None, control: StepControl | None
) -> AbstractStepper:
    """What advances a step, where nothing else is said.

    Raises: InputError for `control` beside `dt`, and what is no stepper or no step.
    """
    if dt is not None:
        check_time_step(dt)
        if control is not None:
            raise InputError(
                f"dt is {dt!r:.20}, and control is given, too: leave dt out for steps that follow "
                "their error, or leave control out."
            )
    if stepper is None:
        stepper = ESDIRK4() if dt is None else CrankNicolson()
    check_is_stepper(stepper)
    return stepper


def _least_rtol(dtype: jnp.dtype) -> float:
    return ROUND_OFF_UNITS * float(jnp.finfo(dtype).eps)


def describe_steps(
    count: int, shortest: float, longest: float, control: StepControl, dtype: jnp.dtype
) -> str:
    """How many steps there were, of what length, and how exact each is."""
    allowed = "of how far the field ranges and has moved, or of its scale"
    if control.atol is not None:
        allowed = f"of the value, and atol = {control.atol}"
    return (
        f"{count} of {shortest:.3g} to {longest:.3g}, the error of each estimated to be below "
        f"{control.relative(dtype):g} {allowed}"
    )
