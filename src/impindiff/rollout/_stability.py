"""How long an explicit step may be, and warnings about a rollout that is done."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from impindiff._errors import warn_caller
from impindiff._types import GivenState, Scalar, State, real_state
from impindiff.coefficients import Instant
from impindiff.grid import in_free_cells
from impindiff.integrate import AbstractDynamics, AbstractStepper, AbstractSystem, split_integrals
from impindiff.rollout._initial_state import begin_consistently
from impindiff.rollout._ringing import find_ringing
from impindiff.rollout._times import TimeGrid, start_clock_at

# Boundary conditions are evaluated at all times of a rollout of up to so many steps.
_MOST_TIMES = 1000
_ITERATIONS = 60
# A field that is so many times as large as it was is looked at, and steps so much too long are
# spoken of: the longest is known to a few percent.
_GROWN, _SLACK = 2.0, 1.1
# Controlled steps that are at least so much of the longest stable one are as long as that; so many
# are looked at, and they are spoken of where most of them are.
_AT_THE_LIMIT, _MANY = 0.9, 20
# Without numbers, so that Python says it once.
_STIFF = (
    "The steps are as long as {name} is stable for, and their errors would allow longer ones: the "
    "system is stiff. Take an implicit method, such as ESDIRK4()."
)
# Of an algebraic equation may be left so much of what its field does to it.
_INCONSISTENT = 0.05
# What a step changes of a state that rings, relative to it: twice and more.
_TURNED = 1.5


def stable_dt(
    system: AbstractSystem,
    state: GivenState,
    stepper: AbstractStepper,
    time: float = 0.0,
) -> float:
    r"""The longest step of an explicit method that lets nothing grow, at a state.

    From the largest magnitude of an eigenvalue of $\partial F/\partial u$, which power iteration
    finds to a few percent, as if that eigenvalue were real and negative: so it is where diffusion
    or upwind advection limits the step. What oscillates without damping (central advection alone)
    grows under `ForwardEuler` at any step.

    Args:
        system: the equations, with what is learned as it is now.
        state: to linearise at, for a nonlinear system.
        stepper: the method, with its substeps.
        time: at which coefficients that vary are taken.

    Returns: infinity where nothing changes, and for a stepper that is stable at any step.
    """
    state = real_state(state)
    return _longest(system.prepare(jnp.result_type(*state.values())), state, stepper, time)


def vanishing(initial: State, states: GivenState) -> tuple[str, ...]:
    """What is to be said of fields that are all as small as what their precision rounds to zero.

    Args:
        initial: where the rollout starts.
        states: the saved ones.
    """
    for field, before in initial.items():
        limits, both = jnp.finfo(before.dtype), (before, states[field])
        size = max(float(np.nanmax(np.abs(np.asarray(u)), initial=0)) for u in both)
        if 0 < size < float(limits.tiny) / float(limits.eps):
            return (
                f"the values of {field!r} are {size:.2g} at most, and in {before.dtype} what is "
                f"below {float(limits.tiny):.2g} becomes zero: they have hardly a right digit. "
                "Write the problem in other units, or compute in double precision.",
            )
    return ()


def inconsistent(
    dynamics: AbstractDynamics,
    initial: State,
    states: GivenState,
    time_grid: TimeGrid,
    stepper: AbstractStepper,
) -> tuple[str, ...]:
    """What is to be said of a start that does not satisfy algebraic equations, where it is felt.

    What is left of an equation is compared with what the fields themselves, as they are at the end,
    do to it.

    Args:
        dynamics: the system, prepared.
        initial: where the rollout starts.
        states: the saved ones, along a leading axis.
        time_grid: the steps.
        stepper: took them.
    """
    if not (stepper.uses_rates_at_start and dynamics.has_storage):
        return ()
    state = split_integrals(dynamics, initial)[0]
    dtype = jnp.result_type(*state.values())
    dynamics, now = start_clock_at(dynamics, Instant.of(float(time_grid.starts[0]), dtype))
    tendency = dynamics.at(now)
    if not tendency.algebraic:
        return ()
    state = begin_consistently(dynamics, now, state, stepper)
    last = {
        field: jnp.asarray(states[field][-1] if field in tendency.algebraic else 0 * u, u.dtype)
        for field, u in state.items()
    }
    others = {f: 0 * u if f in tendency.algebraic else u for f, u in state.items()}
    rates, effects = jax.jvp(tendency, (state,), (last,))
    _, rest = jax.jvp(tendency, (state,), (others,))
    for field in tendency.algebraic:
        left, own, of_others = (float(jnp.abs(row[field]).sum()) for row in (rates, effects, rest))
        # Where a field is zero, or as good as zero, only round-off is left of its equation.
        is_felt = own > 0 and left > float(jnp.finfo(dtype).eps) ** 0.5 * of_others
        if is_felt and left > _INCONSISTENT * own:
            return (
                f"{field!r} does not satisfy its equation at the start, and could not be solved "
                f"for: what is left of it is {left / own:.2g} of what {field!r} does to it, and "
                f"{stepper.name} begins from the rates there, so that the error is of "
                "first order in dt. Give a better guess, name a solver to consistent(system, "
                "start, solver=...), or use SDIRK2(), which does not need it.",
            )
    return ()


def outgrown(
    dynamics: AbstractDynamics,
    initial: State,
    states: GivenState,
    time_grid: TimeGrid,
    stepper: AbstractStepper,
) -> tuple[str, ...]:
    """What is to be said of explicit steps that were too long, and of a solution that shows it.

    Args:
        dynamics: the system, prepared.
        initial: where the rollout starts.
        states: the saved ones, along a leading axis.
        time_grid: the steps.
        stepper: took them.
    """
    if stepper.stability_limit is None:
        return ()
    sizes = {
        field: tuple(_largest(dynamics, u) for u in (before, states[field]))
        for field, before in split_integrals(dynamics, initial)[0].items()
    }
    grown = [field for field, (before, after) in sizes.items() if not after <= _GROWN * before]
    if not grown:
        return ()
    dt = float(np.max(time_grid.lengths))
    limit = _longest(dynamics, initial, stepper, float(time_grid.starts[0]))
    if dt <= _SLACK * limit or not _rings(dynamics, states, time_grid):
        return ()
    (before, after), name = sizes[grown[0]], stepper.name
    remedy = f"raise {name}(substeps=), or use an implicit stepper such as CrankNicolson()"
    if not stepper.is_explicit:
        remedy = "let fast terms be solved for, is_explicit=False, or use ESDIRK4() for all of them"
    return (
        f"{grown[0]!r} has grown from {before:.3g} to {after:.3g}, and the steps of {dt:.3g} are "
        f"{dt / limit:.2g} times the longest that {name} keeps from growing at the start, "
        f"{limit:.3g}. Lower dt, {remedy}.",
    )


def find_stiffness(
    dynamics_of: Callable[[State], AbstractDynamics],
    sample_parameters: State,
    states: State,
    time: float,
    lengths: np.ndarray,
    stepper: AbstractStepper,
) -> str:
    r"""What is to be said of controlled steps that are as long as is stable; empty where not.

    Longer ones err by what they make grow. So they hover about the longest step of `stable_dt`,
    however small their errors are. Looked at is the later half of all steps, at the last state.

    Args:
        dynamics_of: the system of a sample, from its parameters.
        sample_parameters: `(sample,)` each.
        states: where the rollout has come to, `(sample, *shape)` each.
        time: at which.
        lengths: of the steps.
        stepper: took them.
    """
    if stepper.stability_limit is None or len(lengths) < _MANY:
        return ""
    instant = Instant.of(time, jnp.result_type(*states.values()))

    def radius(given: State, state: State) -> Scalar:
        return _spectral_radius(stepper, dynamics_of(given), state, instant)

    fastest = float(jax.vmap(radius)(sample_parameters, states).max())
    late = lengths[len(lengths) // 2 :]
    is_limited = float(np.median(late)) * fastest > _AT_THE_LIMIT * stepper.stability_limit
    return _STIFF.format(name=stepper.name) if is_limited else ""


def _largest(dynamics: AbstractDynamics, values: Any) -> float:
    return float(np.abs(in_free_cells(dynamics.grid, np.asarray(values))).max(initial=0))


def _rings(dynamics: AbstractDynamics, states: GivenState, time_grid: TimeGrid) -> bool:
    r"""Whether the last state is one that a step would more than turn over, $\Delta t F > u$.

    So it is of what steps beyond the limit have made grow; of what fills or grows by itself a step
    changes little.
    """
    last = {field: jnp.asarray(values[-1]) for field, values in states.items()}
    end = Instant.of(float(time_grid.saved[-1]), jnp.result_type(*last.values()))
    dynamics, now = start_clock_at(dynamics, end)
    last = split_integrals(dynamics, last)[0]
    rates = dynamics.at(now)(last)
    dt = float(np.max(time_grid.lengths))

    def total(values: State) -> float:
        free = (in_free_cells(dynamics.grid, u) for u in values.values())
        return sum(float(jnp.sum(jnp.abs(u))) for u in free)

    return dt * total(rates) > _TURNED * total(last)


def _longest(
    dynamics: AbstractDynamics, state: State, stepper: AbstractStepper, time: float
) -> float:
    instant = Instant.of(time, jnp.result_type(*state.values()))
    size = float(_spectral_radius(stepper, dynamics, state, instant))
    limit = stepper.stability_limit
    return np.inf if size == 0 or limit is None else limit / size


@eqx.filter_jit
def _spectral_radius(
    stepper: AbstractStepper, dynamics: AbstractDynamics, state: State, time: Instant
) -> Scalar:
    dtype = jnp.result_type(*state.values())
    dynamics, now = start_clock_at(dynamics, time)
    tendency = stepper.stepped_part(dynamics).at(now)
    state = split_integrals(dynamics, state)[0]
    _, push = jax.linearize(tendency, state)
    keys = jax.random.split(jax.random.key(0), len(state))
    start = {
        name: jax.random.normal(key, u.shape, dtype)
        for key, (name, u) in zip(keys, state.items(), strict=True)
    }

    def norm(vector: State) -> Scalar:
        return jnp.sqrt(sum((jnp.sum(u**2) for u in vector.values()), start=jnp.zeros((), dtype)))

    def grow(vector: State, _: None) -> tuple[State, Scalar]:
        size = norm(vector)
        unit = jax.tree.map(lambda u: u / jnp.where(size > 0, size, 1), vector)
        pushed = push(unit)
        return pushed, norm(pushed)

    _, sizes = jax.lax.scan(grow, start, None, length=_ITERATIONS)
    # A pair of complex eigenvalues makes growth swing: its mean over many iterations does not.
    late = sizes[_ITERATIONS // 2 :]
    return jnp.where(jnp.all(late > 0), jnp.exp(jnp.mean(jnp.log(jnp.maximum(late, 1e-30)))), 0)


def advise(
    dynamics: AbstractDynamics,
    initial: State,
    states: GivenState,
    time_grid: TimeGrid,
    stepper: AbstractStepper,
) -> None:
    """Warn of what a rollout shows, `RuntimeWarning`; nothing where it is traced."""
    for message in advice_of(dynamics, initial, states, time_grid, stepper):
        warn_caller(message)


def advice_of(
    dynamics: AbstractDynamics,
    initial: GivenState,
    states: GivenState,
    time_grid: TimeGrid,
    stepper: AbstractStepper,
    before: Mapping[str, np.ndarray] | None = None,
) -> tuple[str, ...]:
    """What is to be said of a rollout; nothing where it is traced.

    Args:
        dynamics: the system.
        initial: where it starts.
        states: the saved ones, along a leading axis.
        time_grid: the steps.
        stepper: took them.
        before: see `find_ringing`.
    """
    if not time_grid.num_steps:
        return ()
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((dynamics, initial, states))):
        return ()
    initial = real_state(initial)
    found = vanishing(initial, states) or outgrown(dynamics, initial, states, time_grid, stepper)
    if found:
        return found
    found = inconsistent(dynamics, initial, states, time_grid, stepper)
    found = found or find_ringing(dynamics, initial, states, time_grid, stepper, before)
    if found:
        return found
    ends = np.append(time_grid.starts, time_grid.starts[-1] + time_grid.lengths[-1])
    ends = ends[:: -(-len(ends) // _MOST_TIMES)]
    return dynamics.advice(initial, states, time_grid.saved, ends)
