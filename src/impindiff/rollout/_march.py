"""The loop that finds how long steps may be: a step is tried, judged, and taken or shortened.

Compiled once for all tolerances and lengths. Samples share their steps.
"""

from dataclasses import replace
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from impindiff._types import Scalar, State
from impindiff.grid import in_free_cells
from impindiff.integrate import (
    AbstractDynamics,
    AbstractStepper,
    StepContext,
    integral_rates,
    split_integrals,
    tendency_at,
)
from impindiff.rollout._blindness import is_step_blind
from impindiff.rollout._failures import StepOutcome, judge_step
from impindiff.rollout._initial_state import begin_consistently, check_coefficients
from impindiff.rollout._step_error import (
    ROUND_OFF_UNITS,
    Allowed,
    judge,
    more_stored,
    prospects,
    sizes_of,
)
from impindiff.rollout._sweep import carried, nothing_lost
from impindiff.rollout._times import TimeGrid, start_clock

# Of the tolerance of a step that its solves may use up.
_OF_SOLVES = 0.01
# The exponents of a PI controller, times the order of the estimate, and the usual limits
# (Gustafsson; Hairer & Wanner, section IV.2).
_INTEGRAL, _PROPORTIONAL = 0.7, 0.4
_SAFETY, _LEAST_FACTOR, _MOST_FACTOR = 0.9, 0.2, 5.0
# After a step whose solve failed, and how many may be refused in a row.
_AFTER_FAILURE, _MOST_REFUSED = 0.25, 100
# An error much smaller than this gives no longer step than this.
_LEAST_ERROR = 1e-6
# The first step changes a field by so much of what its error is compared with.
_FIRST_CHANGE = 0.1


class Begun(NamedTuple):
    """Where a rollout goes on that others have begun. Samples are the leading axis of states.

    Attributes:
        first: the state at its very start.
        lost: what rounding has left out of the present state.
        moved: by field, how far it has moved since the start.
        dt: the length of the next step; not a number where nothing was done yet.
        error: of the last step, in units of what is allowed.
        elapsed: the time since the start.
        whole: the time of the whole rollout.
    """

    first: State
    lost: State | None
    moved: State
    dt: Scalar
    error: Scalar
    elapsed: Scalar
    whole: Scalar

    @classmethod
    def nothing(cls, initial: State, whole: Scalar) -> "Begun":
        """Where a rollout begins.

        Args:
            initial: the state, `(sample, *grid)` each.
            whole: the time that it takes.
        """
        moved = {f: jnp.zeros(u.shape[:1], u.dtype) for f, u in initial.items()}
        dt, error = jnp.full_like(whole, jnp.nan), jnp.ones_like(whole)
        return cls(initial, nothing_lost(initial), moved, dt, error, jnp.zeros_like(whole), whole)


class March(NamedTuple):
    """A rollout on its way. Samples are the leading axis, but where something else is said.

    Attributes:
        first: the state at the very start of the rollout.
        state: of each sample.
        lost: what rounding has left out of it.
        moved: by field, how far it has moved since the start.
        span: number of the span that it is in.
        passed: of this span, and what rounding has left out of that.
        dt: the length of the next step to be tried.
        error: of the last step taken, in units of what is allowed.
        num_taken: steps so far.
        num_refused: steps tried in vain.
        in_a_row: how many of them since the last that was taken.
        lengths: of the steps taken.
        spans: number of the span that each is in.
        outcome: of each, `(step, sample)`.
        saved: states, `(time, sample, *shape)`, and one more place.
        errors: of the last step tried, `(sample, field)`.
        places: the cells where they are largest, `(sample, field)`.
        result: of the last step tried.
    """

    first: State
    state: State
    lost: State | None
    moved: State
    span: Array
    passed: tuple[Scalar, Scalar]
    dt: Scalar
    error: Scalar
    num_taken: Array
    num_refused: Array
    in_a_row: Array
    lengths: Array
    spans: Array
    outcome: StepOutcome
    saved: State
    errors: Array
    places: Array
    result: Array


class _Tried(NamedTuple):
    """A step of one sample: where it ends, and its error in units of what is allowed, by field.

    And whether the estimate of the error is blind to something that happens in the step.
    """

    state: State
    lost: State | None
    moved: State
    outcome: StepOutcome
    errors: Array
    places: Array
    is_blind: Array


@final
class _Problem(eqx.Module):
    """What is the same in all steps, of all samples or of one.

    Attributes:
        shared: the system, its parts prepared that do not depend on a sample.
        spans: a step from each saved time to the next.
        stepper: has an estimate of its error.
        allowed: what error is.
        elapsed: the time, before the first of the spans, since the start of the whole rollout.
        whole: the time of that.
    """

    shared: Any
    spans: TimeGrid
    stepper: AbstractStepper
    allowed: Allowed
    elapsed: Scalar
    whole: Scalar

    def dynamics(self, given: State, dtype: jnp.dtype) -> tuple[AbstractDynamics, Array]:
        """The system of a sample, and when its spans begin."""
        prepared = self.shared.with_sample_parameters(given) if given else self.shared
        dynamics, begins = start_clock(prepared.prepare(dtype), self.spans, dtype)
        return check_coefficients(dynamics, self.spans), begins

    def begin(self, given: State, state: State) -> State:
        """Where the rollout of a sample starts, see `begin_consistently`."""
        dynamics, begins = self.dynamics(given, jnp.result_type(*state.values()))
        return begin_consistently(dynamics, begins[0], state, self.stepper)

    def attempt(
        self,
        given: State,
        first: State,
        state: State,
        lost: State | None,
        moved: State,
        span: Array,
        passed: Scalar,
        dt: Scalar,
    ) -> _Tried:
        """Take a step and judge it."""
        dynamics, begins = self.dynamics(given, dt.dtype)
        time = begins[span] + passed
        context = StepContext(rtol=_OF_SOLVES * self.allowed.rtol)
        taken = self.stepper.advance(dynamics, time, dt, state, None, context)
        after, lost = carried(state, taken, lost)
        solved = judge_step(dynamics, after, time + dt, dt, taken.outcome)
        outcome = replace(solved, violation=None)
        far = {f: jnp.maximum(m, jnp.abs(after[f] - first[f]).max()) for f, m in moved.items()}
        error = taken.error or {}
        sizes = sizes_of(dynamics, first, {field: far[field] for field in error})
        speeds = {f: jnp.abs(after[f] - state[f]).max() / dt for f in error}
        fields, integrals = split_integrals(dynamics, after)
        rates = integral_rates(dynamics, integrals, time + dt, fields)
        speeds |= {name: jnp.abs(rate).max() for name, rate in rates.items()}
        elapsed = self.elapsed + (time - begins[0])
        ahead = prospects(dynamics, first, moved, speeds, elapsed, self.whole)
        sizes = jax.tree.map(jnp.add, sizes, ahead)
        limits = self.allowed.stored(dynamics, time + dt, after, sizes)
        judged = [judge(dynamics, e, limits[field]) for field, e in error.items()]
        # Of fields that all follow from their equations.
        judged = judged or [(jnp.zeros((), dt.dtype), jnp.asarray(0))]
        errors, places = (jnp.stack(each) for each in zip(*judged, strict=True))
        is_blind = is_step_blind(dynamics, self.stepper.nodes, time, dt, self.whole, after, limits)
        return _Tried(after, lost, far, outcome, errors, places, is_blind)

    def first_dt(self, given: State, first: State) -> Scalar:
        """The length of a step that changes the fields by a small part, at their first rates."""
        dtype = jnp.result_type(*first.values())
        dynamics, begins = self.dynamics(given, dtype)
        tendency = tendency_at(dynamics, begins[0], first)
        left_out = {*dynamics.integrals, *tendency.algebraic}
        fields = [field for field in first if field not in left_out]
        ranges = sizes_of(dynamics, first, {field: jnp.zeros((), dtype) for field in fields})
        change = {}
        for field in fields:
            u = first[field]
            largest = jnp.abs(in_free_cells(dynamics.grid, u)).max()
            size = jnp.where(ranges[field] > 0, ranges[field], largest)
            change[field] = jnp.broadcast_to(_FIRST_CHANGE * size, u.shape)
        stored, rates = more_stored(dynamics, begins[0], first, change), tendency(first)
        found = [jnp.asarray(jnp.inf, dtype)]
        for field in fields:
            rate = jnp.abs(rates[field]).max()
            most = in_free_cells(dynamics.grid, stored[field]).max()
            dt = most / jnp.where(rate > 0, rate, 1)
            found.append(jnp.where((rate > 0) & (dt > 0), dt, jnp.inf))
        return jnp.min(jnp.stack(found))


@eqx.filter_jit
def march(
    system: Any,
    initial: State,
    sample_parameters: State,
    spans: TimeGrid,
    stepper: AbstractStepper,
    allowed: Allowed,
    max_dt: Scalar,
    at_most: Array,
    max_steps: int,
    begun: Begun,
    is_sliver: Array | np.ndarray,
) -> March:
    """March through the spans, until all are done or a step cannot be taken.

    Args:
        system: the equations.
        initial: for each field an array `(sample, *grid)`.
        sample_parameters: the sample parameters that the system misses, `(sample,)` each.
        spans: a step from each saved time to the next.
        stepper: has an estimate of its error.
        allowed: what error is.
        max_dt: the longest step.
        at_most: so many steps are taken.
        max_steps: the most that `at_most` may be; another number is another program.
        begun: what went before.
        is_sliver: of each span, whether it leads across a jump: then a step needs but be solved.
    """
    dtype = jnp.result_type(*initial.values())
    shared = system.prepare_shared(dtype) if sample_parameters else system.prepare(dtype)
    problem = _Problem(shared, spans, stepper, allowed, begun.elapsed, begun.whole)
    lengths, slots = jnp.asarray(spans.lengths, dtype), jnp.asarray(spans.slots)
    attempt = jax.vmap(problem.attempt, in_axes=(0, 0, 0, 0, 0, None, None, None))
    num_spans, order = spans.num_steps, stepper.error_order or 1

    def go_on(now: March) -> Array:
        is_short = now.dt <= ROUND_OFF_UNITS * jnp.finfo(dtype).eps * lengths[now.span]
        stuck = (now.in_a_row > 0) & (is_short | (now.in_a_row >= _MOST_REFUSED))
        return (now.span < num_spans) & (now.num_taken < at_most) & ~stuck

    def one(now: March) -> March:
        passed, left_out = now.passed
        left = (lengths[now.span] - passed) - left_out
        # The last two of a span are equal: else a tiny one may remain.
        wanted = jnp.minimum(now.dt, max_dt)
        ends = left <= wanted * (1 + 1e-3)
        dt = jnp.where(ends, left, jnp.where(left < 2 * wanted, left / 2, wanted))
        tried = attempt(
            sample_parameters, first, now.state, now.lost, now.moved, now.span, passed, dt
        )
        solved = tried.outcome.converged.all() & jnp.isfinite(tried.errors).all()
        solved &= ~tried.is_blind.any()
        error = jnp.where(solved, tried.errors.max(), jnp.inf)
        crosses = jnp.asarray(is_sliver)[now.span] & solved
        error = jnp.where(crosses, jnp.minimum(error, now.error), error)
        taken = solved & (error <= 1)
        factor = jnp.where(crosses, 1, _factor(error, now.error, order, taken, solved))
        # A step that was cut short says nothing against a longer one.
        following = jnp.where(taken & (factor >= 1), jnp.maximum(factor * dt, wanted), factor * dt)

        def either(one: Any, other: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(taken, a, b), one, other)

        state, lost, moved = either(
            (tried.state, tried.lost, tried.moved), (now.state, now.lost, now.moved)
        )
        total = dt + left_out
        further = passed + total
        after = either((further, total - (further - passed)), now.passed)
        done = taken & ends
        number = jnp.where(taken, now.num_taken, max_steps)
        slot = jnp.where(done, slots[now.span], num_saved)
        return March(
            first,
            state,
            lost,
            moved,
            now.span + done,
            jax.tree.map(lambda each: jnp.where(done, 0, each), after),
            following,
            jnp.where(taken, jnp.maximum(error, _LEAST_ERROR), now.error),
            now.num_taken + taken,
            now.num_refused + ~taken,
            jnp.where(taken, 0, now.in_a_row + 1),
            now.lengths.at[number].set(dt),
            now.spans.at[number].set(now.span),
            jax.tree.map(lambda each, new: each.at[number].set(new), now.outcome, tried.outcome),
            jax.tree.map(lambda each, new: each.at[slot].set(new), now.saved, state),
            tried.errors,
            tried.places,
            tried.outcome.result,
        )

    is_begun = jnp.isfinite(begun.dt)
    consistent = jax.vmap(problem.begin)(sample_parameters, initial)
    initial = jax.tree.map(lambda u, v: jnp.where(is_begun, u, v), initial, consistent)
    first = jax.tree.map(lambda u, v: jnp.where(is_begun, u, v), begun.first, initial)
    num_saved = len(spans.saved)
    saved = jax.tree.map(lambda u: jnp.zeros((num_saved + 1, *u.shape), u.dtype), initial)
    if spans.saves_start:
        saved = jax.tree.map(lambda each, u: each.at[0].set(u), saved, initial)
    dt = jax.vmap(problem.first_dt)(sample_parameters, initial).min()
    dt = jnp.minimum(jnp.minimum(dt, max_dt), lengths[0])
    dt = jnp.where(is_begun, begun.dt, dt)
    shapes = jax.eval_shape(
        attempt,
        sample_parameters,
        first,
        initial,
        begun.lost,
        begun.moved,
        jnp.asarray(0),
        jnp.zeros((), dtype),
        dt,
    )
    zeros = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), shapes)
    outcome = jax.tree.map(
        lambda each: jnp.zeros((max_steps + 1, *each.shape), each.dtype), zeros.outcome
    )
    none = jnp.asarray(0)
    start = March(
        first,
        initial,
        begun.lost,
        begun.moved,
        none,
        (jnp.zeros((), dtype), jnp.zeros((), dtype)),
        dt,
        begun.error,
        none,
        none,
        none,
        jnp.zeros(max_steps + 1, dtype),
        jnp.zeros(max_steps + 1, none.dtype),
        outcome,
        saved,
        zeros.errors,
        zeros.places,
        zeros.outcome.result,
    )
    return jax.lax.while_loop(go_on, one, start)


def _factor(error: Scalar, before: Scalar, order: int, taken: Array, solved: Array) -> Scalar:
    """How much longer the next step may be; a step refused is followed by a shorter one."""
    error = jnp.maximum(error, _LEAST_ERROR)
    alone = _SAFETY * error ** (-1 / order)
    both = _SAFETY * error ** (-_INTEGRAL / order) * before ** (_PROPORTIONAL / order)
    factor = jnp.where(taken, both, jnp.minimum(alone, _SAFETY))
    factor = jnp.clip(factor, _LEAST_FACTOR, _MOST_FACTOR)
    return jnp.where(solved, factor, _AFTER_FAILURE).astype(error.dtype)
