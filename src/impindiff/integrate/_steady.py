r"""Steady states: the root of $F(u) = 0$, and a way to it where Newton's method alone fails.

In a steady state every field is algebraic. So it is a stage without storage, and units, solvers,
preconditioners and the adjoint are those of a stage. Each row is taken times a number $\tau_i$
that makes what a cell does to itself about one.

The way is pseudo-time: backward Euler steps $q(u) - q(u_0) = \delta\,F(u)$, which follow the
process in time, but for its accuracy. $\delta$ grows as $\lVert F \rVert$ falls (switched
evolution relaxation), and shrinks where a step fails or leaves the bounds of a field. Whenever
$\lVert F \rVert$ has fallen enough, Newton's method has another try.

Reference: C. T. Kelley, D. E. Keyes, SIAM J. Numer. Anal. 35 (1998) 508.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from impindiff._types import AbstractTendency, Scalar, State
from impindiff.implicit import AbstractRootSolver, Root, SolveContext
from impindiff.integrate._dynamics import AbstractDynamics
from impindiff.integrate._implicit import choose_solver
from impindiff.integrate._stage import Stage, solve_stage
from impindiff.integrate._units import every_other, root_mean_square
from impindiff.linear import AbstractLinearSolver, DenseLU, Outcome, Result, Stencil, tree
from impindiff.precondition import AbstractPreconditioner, LinearisedStep

# The first step of pseudo-time, in times in which a cell answers its neighbours.
_FIRST = 10.0
# By how much steps grow where the rates fall, and shrink where one fails.
_LEAST_GROWTH, _MOST_GROWTH, _SHRINK = 1.5, 10.0, 4.0
# Rates that have fallen by so much since are worth another try of Newton's method.
_NEAR = 0.05
# No step is tried that is shorter than the first by more.
_SHORTEST = 1e-9
# To how much of its start a step of pseudo-time is solved: only where they lead to counts.
_LOOSE = 1e-3
# In units of round-off: uniform changes that do less to the rates do nothing.
_NOTHING = 8.0
# A system without a grid has its matrix written out up to so many unknowns.
_WRITTEN_OUT = 1000


@final
class SteadyTendency(AbstractTendency):
    r"""$\tau F$, for a stage of weight 1 that stores nothing or $\tau q / \delta$.

    Solid cells, of which no equation says anything, store what they hold, and so keep it.

    Attributes:
        rates: $F$, with the $q$ of the process.
        factors: $\tau$, by field.
        mass: $1 / \delta$; None for nothing stored at all.
    """

    rates: AbstractTendency
    factors: dict[str, Scalar]
    mass: Scalar | None = None

    has_storage: ClassVar[bool] = True

    def __call__(self, state: State) -> State:
        """The scaled rates."""
        return {field: self.factors[field] * rate for field, rate in self.rates(state).items()}

    def stored(self, state: State) -> State:
        """See the class. Where the process stores nothing of any field, steps store the fields."""
        nothing = {field: jnp.zeros_like(value) for field, value in state.items()}
        if self.mass is None:
            found = nothing
        elif set(self.rates.algebraic) >= set(state):
            found = {field: self.mass * value for field, value in state.items()}
        else:
            stored = self.rates.stored(state)
            found = {f: self.mass * self.factors[f] * stored[f] for f in state}
            found |= {f: nothing[f] for f in self.rates.algebraic}
        return {field: self._unless_solid(found[field], state[field]) for field in state}

    def _unless_solid(self, free: Array, solid: Array) -> Array:
        grid = self.rates.grid
        if grid is None or grid.solid is None or free.shape != grid.shape:
            return free
        return jnp.where(grid.solid, solid, free)

    @property
    def algebraic(self) -> tuple[str, ...]:
        """All fields: see the module."""
        return tuple(self.factors)

    @property
    def scales(self) -> Mapping[str, float]:
        """See `AbstractTendency`."""
        return self.rates.scales

    @property
    def grid(self) -> Any:
        """See `AbstractTendency`."""
        return self.rates.grid

    @property
    def mode_kinds(self) -> Mapping[str, Any]:
        """See `AbstractTendency`."""
        return self.rates.mode_kinds

    @property
    def stencils(self) -> Mapping[str, Stencil | None] | None:
        r"""$S$ of the $I - S$ that a stage of weight 1 inverts: $I + \tau F'$."""
        inner = self.rates.stencils
        if inner is None or self.mass is not None or self.grid is None:
            return None

        def shifted(field: str, own: Stencil | None) -> Stencil:
            factor = self.factors[field]
            one, none = jnp.ones(self.grid.shape, factor.dtype), jnp.zeros((), factor.dtype)
            # Solid cells keep what they hold: there I - S is 1.
            one = self._unless_solid(one, jnp.zeros_like(one))
            if own is None:
                return Stencil(one, ((none, none),) * self.grid.num_axes)
            sides = tuple((factor * lower, factor * upper) for lower, upper in own.sides)
            return Stencil(factor * own.centre + one, sides)

        return {field: shifted(field, own) for field, own in inner.items()}

    @property
    def linear_part(self) -> AbstractTendency | None:
        """See `AbstractTendency`."""
        inner = self.rates.linear_part
        return None if inner is None else replace(self, rates=inner)


def steady_tendency(tendency: AbstractTendency, state: State) -> SteadyTendency:
    """The right-hand side of a steady state, its rows in units of what a cell does to itself."""

    def change(field: str) -> State:
        still = {name: jnp.zeros_like(value) for name, value in state.items()}
        return still | {field: every_other(state[field])}

    def effect(change: State) -> State:
        return jax.jvp(tendency, (state,), (change,))[1]

    effects = {field: effect(change(field)) for field in state}
    factors = {}
    for field, value in state.items():
        own = root_mean_square(effects[field][field])
        others = jnp.stack([root_mean_square(each[field]) for each in effects.values()])
        size = jnp.where(own > 0, own, others.max())
        factors[field] = (1 / jnp.where(size > 0, size, 1)).astype(value.dtype)
    return SteadyTendency(tendency, jax.lax.stop_gradient(factors))


class SteadyRoot(NamedTuple):
    """A steady state, and how it was found.

    Attributes:
        root: the fields, what they are above the guess, and the outcome of all solves together.
        pseudo_steps: how many steps of pseudo-time were tried.
    """

    root: Root
    pseudo_steps: Int[Array, ""]


def find_steady(
    dynamics: AbstractDynamics,
    time: Scalar,
    guess: State,
    solver: AbstractRootSolver | None,
    preconditioner: AbstractPreconditioner | None,
    context: SolveContext,
    max_steps: int,
) -> SteadyRoot:
    """The root of $F$ near a guess, differentiable in all that $F$ depends on.

    An affine $F$ takes one linear solve. What led to any other root plays no part in its
    derivative, which is one solve with the Jacobian at the root. A root of which nothing holds the
    level is a failure, `Result.SINGULAR`.

    Args:
        dynamics: the system.
        time: at which coefficients are taken.
        guess: where to start.
        solver: finds roots; None for one that is chosen.
        preconditioner: of the Jacobian.
        context: what else is wanted of the solve.
        max_steps: most steps of pseudo-time; 0 for Newton's method alone.
    """
    fixed, tendency = jax.lax.stop_gradient, dynamics.at(time)
    steady = steady_tendency(tendency, fixed(guess))
    search = _Search(dynamics, time, _solver_for(dynamics, tendency, solver, guess), preconditioner)
    if context.root is not None:
        return SteadyRoot(search.solve(steady, guess, context.root, context), jnp.array(0))
    if dynamics.is_affine or not max_steps:
        found, count = search.solve(steady, guess, guess, context), jnp.array(0)
    else:
        arrays, static = eqx.partition((search, steady), eqx.is_array)
        held, rates = eqx.combine(fixed(arrays), static)
        state, outcome, count = fixed(held.follow(rates, fixed(guess), context.rtol, max_steps))
        # From the guess, and with the root known: nothing is solved again, but for its derivative.
        found = search.solve(steady, guess, state, replace(context, root=state))
        worst = jnp.maximum(outcome.result, found.outcome.result)
        found = found._replace(outcome=replace(outcome, result=worst))
    least, _ = undetermined(tendency, fixed(found.value), dynamics.volume_shares)
    outcome = found.outcome
    is_free = outcome.converged & has_no_level(least)
    result = jnp.where(is_free, Result.SINGULAR, outcome.result).astype(outcome.result.dtype)
    return SteadyRoot(found._replace(outcome=replace(outcome, result=result)), count)


def _solver_for(
    dynamics: AbstractDynamics,
    tendency: AbstractTendency,
    solver: AbstractRootSolver | None,
    guess: State,
) -> AbstractRootSolver:
    """The solver given, or one that fits: without storage plain iterations seldom do."""
    found, grid = choose_solver(solver, dynamics.is_affine), dynamics.grid
    size = sum(value.size for value in guess.values())
    if grid is None and size <= _WRITTEN_OUT:

        def written_out(linear: AbstractLinearSolver) -> AbstractLinearSolver:
            return DenseLU(linear.rtol, linear.atol) if linear.is_open else linear

        return found.with_linear(written_out)
    # What is known by its stencils alone is eliminated along a line without any iteration.
    if grid is not None and grid.num_axes == 1 and tendency.stencils is not None:
        return found.with_linear(lambda linear: linear.resolved(direct=True))
    return found


class _Way(NamedTuple):
    """Where the search for a root has come to.

    Attributes:
        state: the last that is allowed.
        refused: the last root that is not, and whether there is one after that state.
        norm: of the rates at the state.
        tried: the same where Newton's method had its last try.
        mass: of the next step of pseudo-time.
        is_newton: whether it is tried next.
        is_done: whether the state is a root.
        result: of the last solve.
        iterations, steps: of all solves.
        count: steps of pseudo-time.
    """

    state: State
    refused: tuple[State, Bool[Array, ""]]
    norm: Scalar
    tried: Scalar
    mass: Scalar
    is_newton: Bool[Array, ""]
    is_done: Bool[Array, ""]
    result: Int[Array, ""]
    iterations: Int[Array, ""]
    steps: Int[Array, ""]
    count: Int[Array, ""]


class _Search(eqx.Module):
    """How roots are found."""

    dynamics: AbstractDynamics
    now: Scalar
    solver: AbstractRootSolver
    preconditioner: AbstractPreconditioner | None

    def solve(
        self, tendency: SteadyTendency, start: State, at: State, context: SolveContext
    ) -> Root:
        """The root of one stage, counted from a start and preconditioned as at a state."""
        one = jnp.ones((), jnp.result_type(*start.values()))
        inverse = None
        if self.preconditioner is not None:
            at = jax.lax.stop_gradient(at)
            inverse = self.preconditioner.make(LinearisedStep(tendency, one, at))
        shares = self.dynamics.volume_shares
        stage = Stage(tendency, one, start, tendency.stored(start), None, shares)
        return solve_stage(stage, self.solver, inverse, context)

    def follow(
        self, steady: SteadyTendency, guess: State, rtol: Scalar | None, max_steps: int
    ) -> tuple[State, Outcome, Int[Array, ""]]:
        """Newton's method, and pseudo-time where it fails; last the number of its steps."""
        dtype = jnp.result_type(*guess.values())
        own = jnp.zeros((), dtype) if rtol is None else jnp.asarray(rtol, dtype)
        first = self._first_mass(steady, guess)

        def unfinished(way: _Way) -> Bool[Array, ""]:
            goes_on = (way.count < max_steps) | way.is_newton
            return ~way.is_done & goes_on & (way.mass <= first / _SHORTEST)

        def turn(way: _Way) -> _Way:
            mass = jnp.where(way.is_newton, 0, way.mass)
            context = SolveContext(rtol=jnp.where(way.is_newton, own, jnp.maximum(own, _LOOSE)))
            found = self.solve(replace(steady, mass=mass), way.state, way.state, context)
            norm = self._size(steady, found.value)
            is_solved = found.outcome.converged & jnp.isfinite(norm)
            is_good = is_solved & self._is_allowed(found.value)
            growth = jnp.clip(way.norm / jnp.where(norm > 0, norm, 1), 1 / _SHRINK, _MOST_GROWTH)
            growth = jnp.where(growth >= 1, jnp.maximum(growth, _LEAST_GROWTH), growth)
            after = jnp.where(is_good, way.mass / growth, way.mass * _SHRINK)
            refused, was_refused = way.refused
            is_refused = way.is_newton & is_solved & ~is_good
            result = jnp.where(jnp.isfinite(norm), found.outcome.result, Result.NOT_FINITE)
            return _Way(
                _either(is_good, found.value, way.state),
                (_either(is_refused, found.value, refused), was_refused | is_refused),
                jnp.where(is_good, norm, way.norm),
                jnp.where(way.is_newton, way.norm, way.tried),
                jnp.where(way.is_newton, way.mass, after),
                ~way.is_newton & is_good & (norm <= _NEAR * way.tried),
                way.is_newton & is_good,
                result.astype(way.result.dtype),
                way.iterations + found.outcome.iterations.astype(way.iterations.dtype),
                way.steps + found.outcome.steps.astype(way.steps.dtype),
                way.count + ~way.is_newton,
            )

        none, no = jnp.array(0), jnp.array(False)
        norm = self._size(steady, guess)
        start = _Way(guess, (guess, no), norm, norm, first, ~no, no, none, none, none, none)
        last = jax.lax.while_loop(unfinished, turn, start)
        refused, was_refused = last.refused
        # A root that is not allowed is handed on, for its bounds to be named.
        was_refused = was_refused & ~last.is_done
        missed = jnp.where(last.result <= Result.ROUND_OFF, Result.MAX_STEPS, last.result)
        result = jnp.where(last.is_done, last.result, missed)
        result = jnp.where(was_refused, Result.CONVERGED, result).astype(last.result.dtype)
        relative = last.norm / jnp.where(norm > 0, norm, 1)
        outcome = Outcome(result, last.iterations, relative, last.steps)
        return _either(was_refused, refused, last.state), outcome, last.count

    def _size(self, steady: SteadyTendency, state: State) -> Scalar:
        """The norm of the scaled rates, a sum over the volume."""
        rates, shares = steady(state), self.dynamics.volume_shares
        if shares is not None:
            roots = {f: jnp.asarray(shares**0.5, rate.dtype) for f, rate in rates.items()}
            rates = {
                f: rate * roots[f] if rate.shape == shares.shape else rate
                for f, rate in rates.items()
            }
        return tree.norm(rates)

    def _is_allowed(self, state: State) -> Bool[Array, ""]:
        """Whether a state is within bounds and no coefficient has the wrong sign there."""
        now = jnp.zeros((), jnp.result_type(*state.values()))
        found = self.dynamics.bounds_violation(state)
        allowed = jnp.array(True) if found is None else ~found.is_outside
        negative = self.dynamics.negative_diffusivity(state, self.now, now + jnp.inf)
        return allowed if negative is None else allowed & ~negative.is_outside

    def _first_mass(self, steady: SteadyTendency, guess: State) -> Scalar:
        """Of the first step: in which no field moves further than a few cells."""
        one = jnp.ones((), jnp.result_type(*guess.values()))
        ones = {field: jnp.ones_like(value) for field, value in guess.items()}
        of_one = replace(steady, mass=one)
        slopes = jax.jvp(of_one.stored, (guess,), (ones,))[1]
        sizes = jnp.stack([root_mean_square(slope) for slope in slopes.values()])
        least = jnp.min(jnp.where(sizes > 0, sizes, jnp.inf))
        return jnp.where(jnp.isfinite(least), 1 / (_FIRST * least), one)


def _either(condition: Bool[Array, ""], one: State, other: State) -> State:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)


def has_no_level(least: Scalar) -> Bool[Array, ""]:
    """Whether the number that `undetermined` gives is round-off."""
    return least <= _NOTHING * jnp.finfo(least.dtype).eps


def undetermined(
    tendency: AbstractTendency, state: State, volumes: Any
) -> tuple[Scalar, Float[Array, " fields"]]:
    r"""How near a steady state is to having no unique level, or no solution.

    No condition holds the level of a field where a uniform change of some fields changes no rate,
    and where the rates of some fields add up to zero over the domain, whatever the state: either
    way the Jacobian is singular.

    Args:
        tendency: $F$.
        state: at which it is linearised.
        volumes: shares of the cells; None where all are equal.

    Returns: the smallest singular value of the Jacobian on such changes, relative to its values on
        changes of every other cell; and the weight that each field has in that change.
    """
    fields = list(state)

    def along(make: Callable[[Array], Array]) -> list[State]:
        still = {name: jnp.zeros_like(value) for name, value in state.items()}
        return [still | {field: make(state[field])} for field in fields]

    def weighted(value: Array) -> Array:
        if volumes is None or value.shape != volumes.shape:
            return value
        return value * jnp.asarray(volumes, value.dtype)

    def product(change: State) -> State:
        return jax.jvp(tendency, (state,), (change,))[1]

    def transposed(weights: State) -> State:
        return jax.vjp(tendency, state)[1](jax.tree.map(weighted, weights))[0]

    def least(map_of: Callable[[State], State]) -> tuple[Scalar, Array]:
        def columns(changes: list[State]) -> Array:
            flat = [jnp.concatenate([map_of(c)[f].ravel() for f in fields]) for c in changes]
            return jnp.stack(flat, axis=1)

        even, uneven = columns(along(jnp.ones_like)), columns(along(every_other))
        size = jnp.linalg.norm(uneven, axis=0)
        matrix = jax.lax.stop_gradient(even / jnp.where(size > 0, size, 1))
        _, values, right = jnp.linalg.svd(matrix, full_matrices=False)
        return values[-1], jnp.abs(right[-1])

    one, other = least(product), least(transposed)
    is_first = one[0] <= other[0]
    return jnp.where(is_first, one[0], other[0]), jnp.where(is_first, one[1], other[1])
