"""Steps that fail: why, as data, and what becomes of the rollout then.

Besides its solve, a step is judged by the state at its end: nothing is clipped.
"""

from dataclasses import replace
from enum import IntEnum
from typing import Any, Literal, Self, final, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from impindiff._errors import InputError
from impindiff._types import Scalar, State
from impindiff.integrate import AbstractDynamics, BoundsViolation
from impindiff.linear import Outcome, Result


class StepResult(IntEnum):
    """Why a step ended: a `Result` of its solve, or what is wrong with the state at its end."""

    CONVERGED = Result.CONVERGED
    ROUND_OFF = Result.ROUND_OFF
    MAX_STEPS = Result.MAX_STEPS
    STALLED = Result.STALLED
    NOT_SYMMETRIC = Result.NOT_SYMMETRIC
    SINGULAR = Result.SINGULAR
    NOT_FINITE = Result.NOT_FINITE
    GUESS_NOT_FINITE = Result.GUESS_NOT_FINITE
    OUT_OF_BOUNDS = 8
    """Solved as well as can be, or without a solve, but by a state that is not allowed."""
    START_OUT_OF_BOUNDS = 9
    """The first step starts from a state that is not allowed."""
    NEGATIVE_DIFFUSIVITY = 10
    """Solved, but by a state, or at a time, at which a diffusivity or a transfer is negative, or a
    capacity not positive: a root that no process has."""
    ILL_POSED = 11
    """A coefficient that does not depend on the state has the wrong sign."""

    @property
    def label(self) -> str:
        """Its name in plain letters."""
        return self.name.lower().replace("_", " ")

    @property
    def explanation(self) -> str:
        """What it means and what to do about it, in one sentence."""
        return _EXPLANATIONS.get(self) or Result(int(self)).explanation

    @property
    def yields_to_shorter_steps(self) -> bool:
        """Whether it may be otherwise in a shorter step.

        An equation of NaN, or a method that does not fit the operator, that does not change.
        """
        return self in (
            StepResult.MAX_STEPS,
            StepResult.STALLED,
            StepResult.SINGULAR,
            StepResult.OUT_OF_BOUNDS,
            StepResult.NEGATIVE_DIFFUSIVITY,
        )

    @property
    def is_of_the_state(self) -> bool:
        """Whether it is the state that is at fault, and `StepOutcome.violation` says where."""
        return self in _EXPLANATIONS


_EXPLANATIONS = {
    StepResult.OUT_OF_BOUNDS: "the equations lead to a state that the system's limits exclude: "
    "shorten the step, look at what drives the field there (a rate that is far too large, what is "
    "learned of it, a condition at the boundary), or widen Field(..., bounds=...).",
    StepResult.START_OUT_OF_BOUNDS: "it starts from a state that the system's limits exclude: "
    "correct the initial values, or widen Field(..., bounds=...).",
    StepResult.NEGATIVE_DIFFUSIVITY: "the equations have a solution there that no process has, for "
    "with a negative diffusivity, transfer or capacity they are ill-posed: shorten the step, give "
    "the field's range as Field(..., bounds=...), what is learned bounds, or a function that is "
    "not negative wherever the field may be.",
    StepResult.ILL_POSED: "whatever the state is, the equations are ill-posed with it: correct the "
    "coefficient, keep it from falling below zero with jnp.maximum(..., 0.0), or give what is "
    "learned bounds.",
}


@final
class StepOutcome(eqx.Module):
    """The outcome of one step, or of many (leading axes).

    Attributes:
        result: a `StepResult`.
        iterations: see `impindiff.linear.Outcome`, as for the two that follow.
        relative_residual: of the solve.
        steps: nonlinear steps.
        violation: how the state at the end violates bounds; None where it has none.
    """

    result: Int[Array, "..."]
    iterations: Int[Array, "..."]
    relative_residual: Float[Array, "..."]
    steps: Int[Array, "..."]
    violation: BoundsViolation | None = None

    @classmethod
    def of_solve(cls, outcome: Outcome, violation: BoundsViolation | None = None) -> Self:
        """The outcome of a step whose state is looked at by the caller."""
        rest = outcome.iterations, outcome.relative_residual, outcome.steps
        return cls(outcome.result, *rest, violation)

    @property
    def converged(self) -> Bool[Array, "..."]:
        """Whether the solution is as good as was asked for, and its state allowed."""
        return self.result <= StepResult.ROUND_OFF


def judge_step(
    dynamics: AbstractDynamics, state: State, time: Scalar, dt: Scalar, outcome: Outcome
) -> StepOutcome:
    """The outcome of a step that ends at a state: outside of the bounds it fails.

    So it does where a diffusivity is negative: an implicit step has such roots, too. A solve that
    failed stays what it is. Where there is nothing to look at, nothing is computed.
    """
    violation = dynamics.bounds_violation(state)
    negative = dynamics.negative_diffusivity(state, time, dt)
    found = (negative, StepResult.NEGATIVE_DIFFUSIVITY), (violation, StepResult.OUT_OF_BOUNDS)
    result = outcome.result
    for at, reason in found:
        if at is not None:
            result = jnp.where(outcome.converged & at.is_outside, reason, result)
    if violation is not None and negative is not None:
        violation = BoundsViolation.first_of(violation, negative)
    violation = negative if violation is None else violation
    result = result.astype(outcome.result.dtype)
    return StepOutcome.of_solve(replace(outcome, result=result), violation)


OnFailure = Literal["raise", "nan", "keep"]
"""What `simulate` does at a failed step; see there."""


def check_on_failure(on_failure: Any) -> None:
    """Refuse another word.

    Raises: InputError.
    """
    if on_failure not in get_args(OnFailure):
        raise InputError(
            f"on_failure is {on_failure!r}: give 'raise', 'nan' or 'keep' (the states as the "
            "failed solve left them, with the outcome of every step beside them)."
        )


def is_known(outcome: StepOutcome) -> bool:
    """Whether the outcome of a rollout can be looked at, as it cannot be while it is traced."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(outcome))


def nan_unless(good: Bool[Array, ""], state: State) -> State:
    """The state, and NaN in all of its fields where a step that leads to it has failed.

    A product and not a selection: of a selection the gradient by what led to a failed step would
    be zero, and look like one. Where all is well the factor is 1, and no digit changes.
    """
    return jax.tree.map(lambda u: u * jnp.where(good, 1, jnp.nan).astype(u.dtype), state)


def nan_like(root: State | None, state: State) -> State:
    """The state, and NaN where a root that is known already is the NaN of a failed step.

    For the way back, which solves nothing again and so sees no failure: a loss that is linear in
    the states would get a finite gradient of NaN.
    """
    leaves = jax.tree.leaves(root)
    if not leaves:
        return state
    return nan_unless(~jnp.isnan(leaves[0].ravel()[0]), state)
