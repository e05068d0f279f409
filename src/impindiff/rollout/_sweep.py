"""Going through the steps of a rollout, and back through them for the gradient."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from impindiff._types import State
from impindiff.integrate import Step, store_at
from impindiff.linear import is_coarse
from impindiff.rollout._failures import StepOutcome
from impindiff.rollout._snapshot_schedule import columns, first_snapshots, reversal

Advance = Callable[..., tuple[State, State | None, StepOutcome, PyTree]]
"""`advance(learned, fixed, state, lost, step, roots)`: a step's end, outcome and stages.

`lost` is what rounding has left out of the state so far, None where that is not carried along; the
second of the results is what it is after the step. Given the state after the step and its stages as
`roots`, or the former and None, it solves nothing again, or less.
"""


class Steps(NamedTuple):
    """The steps, an array of each: number, start, length, and where the state after it is saved.

    They start so long after the origin of their `TimeGrid`.
    """

    number: Array
    time: Array
    dt: Array
    slot: Array


def keep_all(
    advance: Advance,
    learned: PyTree,
    fixed: PyTree,
    initial: State,
    lost: State | None,
    saved: State,
    steps: Steps,
) -> tuple[State, State | None, StepOutcome]:
    """One sweep; reverse mode keeps the state of every step.

    Args:
        advance: takes one step.
        learned: what the rollout is differentiated with respect to, besides the initial state.
        fixed: arrays that have no derivative.
        initial: the state at the start.
        lost: what rounding has left out of it, see `nothing_lost`.
        saved: for the states to save, one slot more than there are.
        steps: to take.

    Returns: the states saved, what rounding has left out of the last, and the steps' outcomes.
    """

    def one(carry, step):
        state, lost, saved = carry
        state, lost, outcome, _ = advance(learned, fixed, state, lost, step)
        return (state, lost, store_at(saved, step.slot, state)), outcome

    (_, lost, saved), outcome = jax.lax.scan(one, (initial, lost, saved), steps)
    return saved, lost, outcome


def keep_snapshots(
    count: int,
    advance: Advance,
    learned: PyTree,
    fixed: PyTree,
    initial: State,
    lost: State | None,
    saved: State,
    steps: Steps,
) -> tuple[State, State | None, StepOutcome]:
    """The same, with so many states kept; see `keep_all`.

    The order of recomputation is data of one loop: programs for ten and for ten thousand steps are
    of one size.
    """
    num_steps = len(steps.number)
    # The state before each step goes where it stays, or to one slot more, for the last of them.
    kept_first = first_snapshots(num_steps, count)
    place = np.full(num_steps, count)
    place[kept_first] = np.arange(len(kept_first))
    order = columns(reversal(num_steps, count))
    # With a snapshot for each step none is taken again: no forward solve is compiled for that.
    recomputes = not order[0].all()
    # NumPy's until they are used: an array made here under `jit` would be a tracer of that trace,
    # and `back` may be called in another.
    is_reversal, source, first, end, target = order

    # Steps are arguments: under `vmap` they may be other ones for each sample.
    def sweep(learned, fixed, steps, initial, lost, saved):
        kept = jax.tree.map(lambda u: jnp.zeros((count + 1, *u.shape), u.dtype), initial)

        def one(carry, step_and_place):
            step, place = step_and_place
            state, lost, saved, kept = carry
            kept = store_at(kept, place, state)
            state, lost, outcome, stages = advance(learned, fixed, state, lost, step)
            # Where a state is not kept but found again, its step's stages are not kept either.
            stages = None if recomputes else stages
            return (state, lost, store_at(saved, step.slot, state), kept), (outcome, stages)

        first = (initial, lost, saved, kept)
        (last, lost, saved, kept), (outcome, stages) = jax.lax.scan(
            one, first, (steps, jnp.asarray(place))
        )
        return (saved, lost, outcome), (learned, fixed, steps, kept, last, stages)

    @jax.custom_vjp
    def run(learned, fixed, steps, initial, lost, saved):
        return sweep(learned, fixed, steps, initial, lost, saved)[0]

    def back(residuals, cotangents):
        learned, fixed, steps, kept, last, stages = residuals
        of_saved, *_ = cotangents

        def again(before, first, end, carry):
            def one(number, carried):
                state, lost = carried
                return advance(learned, fixed, state, lost, _load(steps, number))[:2]

            # What rounding left out is not kept with a snapshot: it is less than a digit. From
            # there on it is carried, or many small steps would not add up.
            return jax.lax.fori_loop(first, end, one, (before, nothing_lost(before)))[0], carry

        def reverse(before, first, end, carry):
            after, adjoint, of_learned = carry
            step = _load(steps, first)
            adjoint = jax.tree.map(jnp.add, adjoint, _load(of_saved, step.slot))
            roots = (after, _load(stages, first))
            _, pull = jax.vjp(
                lambda learned, state: advance(learned, fixed, state, None, step, roots)[0],
                learned,
                before,
            )
            more, adjoint = pull(adjoint)
            return before, (before, adjoint, jax.tree.map(jnp.add, of_learned, more))

        def act(carry, action):
            is_reversal, first, end, target, next_source = action
            kept, before, carry = carry
            if recomputes:
                state, carry = jax.lax.cond(is_reversal, reverse, again, before, first, end, carry)
            else:
                state, carry = reverse(before, first, end, carry)
            # Outside of the branches, which would each want a copy of all that is kept; and first
            # written, then read for the next action: the other way round is a copy, too.
            kept = store_at(kept, target, state)
            return (kept, _load(kept, next_source), carry), None

        zeros = jax.tree.map(jnp.zeros_like, (last, learned))
        start = (kept, _load(kept, jnp.asarray(source[0])), (last, *zeros))
        following = np.roll(source, -1)
        actions = jax.tree.map(jnp.asarray, (is_reversal, first, end, target, following))
        (_, _, (_, of_initial, of_learned)), _ = jax.lax.scan(act, start, actions)
        return of_learned, None, None, of_initial, None, of_saved

    run.defvjp(sweep, back)
    return run(learned, fixed, steps, initial, lost, saved)


def nothing_lost(state: State) -> State | None:
    """What rounding has left out of a state at the start; None where no step can lose much."""
    coarse = any(is_coarse(u.dtype) for u in state.values())
    return jax.tree.map(jnp.zeros_like, state) if coarse else None


def carried(before: State, taken: Step, lost: State | None) -> tuple[State, State | None]:
    """The state after a step, and what rounding has left out of it.

    The sum of all increments so far is right to the last digit of the state, however small each of
    them is (Kahan's summation). What is left out has no part in the derivative.
    """
    if lost is None:
        return taken.state, None

    def add(u0, increment, left_out):
        total = increment + left_out
        found = u0 + total
        added = found - u0
        return found, (u0 - (found - added)) + (total - added)

    fixed = jax.lax.stop_gradient
    pairs = {
        field: add(*fixed((before[field], taken.increment[field], lost[field]))) for field in before
    }
    # The derivative is that of the step.
    state = {
        field: taken.state[field] + fixed(pairs[field][0] - taken.state[field]) for field in pairs
    }
    return state, {field: pair[1] for field, pair in pairs.items()}


def _load(slots: PyTree, slot: Array) -> PyTree:
    return jax.tree.map(
        lambda store: jax.lax.dynamic_index_in_dim(store, slot, 0, keepdims=False), slots
    )
