"""Groups of unknowns in turn: the coupled root, its coupled gradient, and what is refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
from gradients import random_like, taylor_rates

from impindiff.cases.vapour_infiltration import system as infiltration
from impindiff.coefficients import Closure
from impindiff.grid import Grid
from impindiff.implicit import Newton, Staggered, UnrolledAdjoint, root
from impindiff.integrate import SDIRK2, BackwardEuler
from impindiff.linear import BiCGStab, DenseLU, Result, Tridiagonal
from impindiff.precondition import (
    BalancedInverse,
    BlockJacobi,
    ByGroup,
    DiagonalInverse,
    GroupInverse,
    Jacobi,
    LinearisedStep,
    ScaledInverse,
    TransformLine,
)
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import Reaction, System

CELLS = 12
STRICT = BiCGStab(1e-13)
GROUPS: dict[str, Any] = {
    "each alone": ("a", "b", "c"),
    "other order": (("c",), ("b",), ("a",)),
    "two together": (("b", "c"), ("a",)),
}


def coupled(unknown, inputs):
    """A step of three fields that spread, react and feed each other; not symmetric."""
    before, rate = inputs
    spread = {n: jnp.roll(u, 1) - 2 * u + jnp.roll(u, -1) for n, u in unknown.items()}
    a, b, c = (unknown[name] for name in "abc")
    source = {"a": -rate * a * b**2, "b": rate * a * b - 0.3 * c, "c": 0.2 * a**3 - c}
    weight = 0.5
    return {n: unknown[n] - before[n] - weight * (spread[n] + source[n]) for n in "abc"}


def before() -> dict[str, jax.Array]:
    x = 2 * np.pi * np.arange(CELLS) / CELLS
    waves = {"a": 1 + 0.5 * np.sin(x), "b": 0.5 + 0.2 * np.cos(x), "c": 0.1 * np.sin(2 * x)}
    return {name: jnp.asarray(wave) for name, wave in waves.items()}


def advance(solver, rate=0.7, given=None):
    given = before() if given is None else given
    return root(coupled, before(), (given, jnp.asarray(rate)), solver)


@pytest.mark.thorough
@pytest.mark.parametrize("name", GROUPS)
def test_it_finds_the_root_of_the_coupled_equations(name: str):
    solver = Staggered(GROUPS[name], DenseLU(), rtol=1e-12)
    found, outcome = jax.jit(lambda rate: advance(solver, rate))(0.7)
    assert int(outcome.result) == Result.CONVERGED
    left = coupled(found, (before(), 0.7))
    assert max(float(jnp.abs(r).max()) for r in left.values()) < 1e-11
    expected, _ = advance(Newton(DenseLU(), DenseLU(), rtol=1e-13))
    for field, value in expected.items():
        np.testing.assert_allclose(found[field], value, atol=1e-11)


@pytest.mark.thorough
def test_one_group_of_all_is_newtons_method():
    """As many steps, where those are not shortened."""
    of_all, outcome = advance(Staggered((("a", "b", "c"),), DenseLU(), rtol=1e-12))
    expected, newton = advance(Newton(DenseLU(), rtol=1e-12))
    assert int(outcome.steps) == int(newton.steps) > 2
    np.testing.assert_allclose(of_all["a"], expected["a"], atol=1e-12)


@pytest.mark.thorough
def test_a_group_is_solved_with_the_newest_of_the_others():
    """Where each field depends on those before it only, one sweep in that order is enough."""

    def chain(u, given):
        return {"p": u["p"] - given, "q": u["q"] - u["p"] ** 2, "r": u["r"] - u["q"] * u["p"]}

    guess = {name: jnp.zeros(3) for name in "pqr"}
    given = jnp.array([1.0, 2.0, 3.0])

    def sweeps(groups):
        found, outcome = root(chain, guess, given, Staggered(groups, DenseLU(1e-12), rtol=1e-12))
        np.testing.assert_allclose(found["r"], given**3)
        return int(outcome.steps)

    assert [sweeps(groups) for groups in map(tuple, ("pqr", "prq", "rqp"))] == [1, 2, 3]


def loss(parts, solver):
    found, _ = advance(solver, parts["rate"], parts["given"])
    return sum(jnp.vdot(found[n] ** 2, random_like(before(), 3)[n]) for n in found)


@pytest.mark.slow
def test_its_gradient_leaves_a_second_order_remainder():
    staggered = Staggered(GROUPS["two together"], BiCGStab(1e-9), STRICT, rtol=1e-13)
    point = {"rate": jnp.array(0.7), "given": before()}
    for part, rate in taylor_rates(lambda p: loss(p, staggered), point, step=1e-3).items():
        assert rate == pytest.approx(2, abs=0.1), part


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "two together")) for n in GROUPS]
)
def test_its_gradient_is_that_of_the_coupled_equations(name: str):
    """Newton's to 1e-7, and central differences."""
    point = {"rate": jnp.array(0.7), "given": before()}
    newton = Newton(DenseLU(), DenseLU(), rtol=1e-13)
    staggered = Staggered(GROUPS[name], DenseLU(), DenseLU(), rtol=1e-13)
    expected, found = (
        jax.jit(jax.grad(lambda p, s=solver: loss(p, s)))(point) for solver in (newton, staggered)
    )
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-9)
    step = 1e-5
    value = jax.jit(lambda rate: loss(point | {"rate": rate}, staggered))
    sides = [value(0.7 + h) for h in (step, -step)]
    central = float(sides[0] - sides[1]) / (2 * step)
    assert float(found["rate"]) == pytest.approx(central, rel=1e-7)


@pytest.mark.slow
def test_it_can_be_unrolled():
    """The derivative of the iterations themselves tends to that of the root."""
    unrolled = Staggered(tuple("abc"), DenseLU(1e-13), UnrolledAdjoint(), rtol=1e-13, max_steps=40)
    implicit = Staggered(tuple("abc"), DenseLU(1e-13), DenseLU(1e-13), rtol=1e-13)
    slopes = [
        float(jax.grad(lambda rate, s=solver: advance(s, rate)[0]["a"].sum())(0.7))
        for solver in (unrolled, implicit)
    ]
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-8) and abs(slopes[1]) > 0.1


@pytest.mark.thorough
def test_a_root_as_guess_needs_hardly_a_sweep():
    exact, _ = advance(Newton(DenseLU(), rtol=1e-14))
    inputs = (before(), jnp.array(0.7))
    _, outcome = root(coupled, exact, inputs, Staggered(tuple("abc"), rtol=1e-10))
    assert int(outcome.steps) <= 3 and bool(outcome.converged)


@pytest.mark.thorough
def test_a_batch_counts_each_sample():
    def steps(rate):
        return advance(Staggered(tuple("abc"), DenseLU(), rtol=1e-11), rate)[1].steps

    rates = jnp.array([0.0, 0.3, 1.0])
    together, one = jax.jit(jax.vmap(steps))(rates), jax.jit(steps)
    assert [int(n) for n in together] == [int(one(rate)) for rate in rates]
    assert len(set(map(int, together))) > 1


@pytest.mark.thorough
@pytest.mark.parametrize("strength, converges", [(0.5, True), (2.0, False)])
def test_what_couples_too_strongly_ends_without_success(strength: float, converges: bool):
    """x + k y = 1, y + k x = 1 by turns contracts by k^2; all at once it is solved at once."""

    def pair(u, k):
        return {"x": u["x"] + k * u["y"] - 1, "y": u["y"] + k * u["x"] - 1}

    guess = {"x": jnp.zeros(2), "y": jnp.zeros(2)}
    _, outcome = root(pair, guess, jnp.array(strength), Staggered(("x", "y"), rtol=1e-8))
    assert bool(outcome.converged) == converges
    assert converges or int(outcome.result) == Result.STALLED
    together = Staggered((("x", "y"),), DenseLU(), rtol=1e-8)
    assert bool(root(pair, guess, jnp.array(strength), together)[1].converged)
    few, said = root(pair, guess, jnp.array(0.5), Staggered(tuple("xy"), rtol=1e-8, max_steps=1))
    assert int(said.result) == Result.MAX_STEPS and int(said.steps) == 1


def test_each_group_may_have_its_linear_solver():
    solver = Staggered(tuple("abc"), (DenseLU(), Tridiagonal(), BiCGStab(1e-9)), STRICT, rtol=1e-12)
    found, outcome = advance(solver)
    assert bool(outcome.converged)
    assert float(jnp.abs(coupled(found, (before(), 0.7))["c"]).max()) < 1e-11
    with pytest.raises(ValueError, match="2 linear solvers for 3 groups"):
        Staggered(tuple("abc"), (DenseLU(), DenseLU()))


@pytest.mark.parametrize(
    "groups, said",
    [
        ((), "at least one group"),
        ((("a",), ()), "at least one group of at least one name"),
        (((1, 2),), "at least one group"),
        ((1,), "at least one group"),
        (1, "at least one group"),
        ((("a", "b"), ("b", "c")), "name 'b' twice"),
    ],
)
def test_groups_that_make_no_sense_are_refused(groups: Any, said: str):
    with runtime_types.without(), pytest.raises(ValueError, match=said):
        Staggered(groups)


def test_an_unknown_of_other_names_is_refused():
    with pytest.raises(ValueError, match="nothing of c .* d, which is not there. .* of a, b, c"):
        advance(Staggered(tuple("abd")))
    with pytest.raises(ValueError, match="must be a dictionary with the keys a; b.* use Newton"):
        root(lambda u, _: u - 1, jnp.zeros(3), None, Staggered(tuple("ab")))


def test_a_group_has_its_own_preconditioner():
    """Also in units; and of one that mixes fields what it makes of the group alone."""
    diagonal = {name: 2.0 + random_like(value, 0) ** 2 for name, value in before().items()}
    vector = random_like(before(), 1)
    own = {name: vector[name] / diagonal[name] for name in ("b", "c")}
    part = {name: vector[name] for name in own}
    wise = GroupInverse(
        ("a", ("b", "c")), [DiagonalInverse({"a": jnp.ones(())}), DiagonalInverse(pick(diagonal))]
    )
    plain = DiagonalInverse(diagonal)
    for whole in (wise, plain):
        alone = whole.restricted(("b", "c"), vector)
        np.testing.assert_allclose(alone.apply(part)["c"], own["c"], rtol=1e-14)
    units = {name: jnp.array(4.0) for name in "abc"}
    rows = {name: jnp.array(0.5) for name in "abc"}
    scaled = ScaledInverse(wise, units, rows).restricted(("b", "c"), vector)
    np.testing.assert_allclose(scaled.apply(part)["b"], own["b"] / 8, rtol=1e-14)
    with pytest.raises(ValueError, match="1 preconditioners for 2 groups"):
        GroupInverse(("a", "b"), [plain])


def pick(diagonal):
    return {name: diagonal[name] for name in ("b", "c")}


def reacting(grid: Grid) -> tuple[System, dict[str, jax.Array]]:
    terms = {
        "u": [Reaction(lambda u, v: -3 * u * v)],
        "v": [Reaction(lambda u, v, w: 2 * u * w - v)],
        "w": [Reaction(lambda v, w: -(w**2) + v)],
    }
    state = {name: 1.0 + 0.3 * k * jnp.ones(grid.shape) for k, name in enumerate("uvw")}
    return System(grid, terms), state


@pytest.mark.thorough
def test_by_group_makes_preconditioners_of_the_groups_alone():
    """The blocks of the Jacobian, written out, of each group and of no two together."""
    grid = Grid.uniform((3, 2), ((0, 1), (0, 1)), periodic=True)
    system, state = reacting(grid)
    tendency, weight = system.prepare(jnp.dtype("float64")).at(jnp.zeros(())), jnp.array(0.1)
    made = ByGroup((("v", "w"), "u"), (BlockJacobi(), Jacobi())).make(
        LinearisedStep(tendency, weight, state)
    )
    assert isinstance(made, GroupInverse)
    vector = random_like(state, 0)
    # What keeps the totals of fields is made around them.
    inner = [part.inner for part in made.parts if isinstance(part, BalancedInverse)]
    applied = GroupInverse(made.groups, inner).apply(vector)
    u, v, w = (float(state[name][0, 0]) for name in "uvw")
    block = np.array([[1 + 0.1, -0.1 * 2 * u], [-0.1, 1 + 0.1 * 2 * w]])
    solved = np.linalg.solve(block, np.stack([vector["v"], vector["w"]]).reshape(2, -1))
    np.testing.assert_allclose(applied["v"], solved[0].reshape(3, 2), rtol=1e-12)
    np.testing.assert_allclose(applied["w"], solved[1].reshape(3, 2), rtol=1e-12)
    np.testing.assert_allclose(applied["u"], vector["u"] / (1 + 0.1 * 3 * v), rtol=1e-12)
    with pytest.raises(ValueError, match="each field must be in one group"):
        ByGroup((("v", "w"),), Jacobi()).make(LinearisedStep(tendency, weight, state))
    with pytest.raises(ValueError, match="1 preconditioners for 2 groups"):
        ByGroup(("v", "w"), (Jacobi(),))


FIELDS = ("temperature", "gas", "porosity")


def infiltrate(grid: Grid, stepper, dt: float, steps: int, strength: Any = 1.0):
    system = infiltration.build(
        grid,
        T_gas=1223.0,
        pore_surface=Closure(
            lambda porosity, k: k * infiltration.deutschmann(porosity), k=jnp.asarray(strength)
        ),
    )
    times = TimeGrid.build(0.0, [dt * steps], dt)
    found = simulate(system, infiltration.start(system), times, stepper)
    return found, times


@pytest.mark.slow
@pytest.mark.parametrize("make, dt", [(SDIRK2, 21600.0), (BackwardEuler, 1800.0)])
def test_vapour_infiltration_as_by_newton(make: Any, dt: float):
    """One dimension: states, gradients of a scale of the unknown law, and differences."""
    grid = infiltration.slab(20)
    direct = Tridiagonal(1e-12)
    steppers = {
        "newton": make(Newton(direct, direct, rtol=1e-12)),
        "staggered": make(Staggered(FIELDS, direct, direct, rtol=1e-12)),
    }

    def last(strength, stepper):
        found, _ = infiltrate(grid, stepper, dt, 3, strength)
        return found.states["porosity"][-1].mean(), found.states

    found = {
        name: jax.jit(jax.value_and_grad(lambda k, s=stepper: last(k, s), has_aux=True))(1.0)
        for name, stepper in steppers.items()
    }
    (_, states), slope = found["staggered"]
    (_, wanted), expected = found["newton"]
    for field in FIELDS:
        size = float(jnp.abs(wanted[field]).max())
        np.testing.assert_allclose(states[field], wanted[field], atol=1e-8 * size)
    assert float(slope) == pytest.approx(float(expected), rel=1e-7) and abs(slope) > 1e-5
    value = jax.jit(lambda k: last(k, steppers["staggered"])[0])
    central = float(value(1 + 1e-3) - value(1 - 1e-3)) / 2e-3
    assert float(slope) == pytest.approx(central, rel=1e-5)


@pytest.mark.slow
def test_vapour_infiltration_in_the_plane_by_lines_of_each_group():
    grid = infiltration.slab(12, 6)
    krylov = BiCGStab(1e-10)
    staggered = Staggered(FIELDS, krylov, krylov, rtol=1e-10)
    steppers = [
        BackwardEuler(Newton(krylov, krylov, rtol=1e-10), TransformLine(0)),
        BackwardEuler(staggered, ByGroup(FIELDS, TransformLine(0))),
    ]
    found = []
    for stepper in steppers:
        run = jax.jit(lambda s, it=stepper: infiltrate(grid, it, 7200.0, 2, s)[0])
        found.append(run(1.0))
    times = TimeGrid.build(0.0, [14400.0], 7200.0)
    for each in found:
        each.check(times)
    for field in FIELDS:
        wanted = found[0].states[field]
        size = float(jnp.abs(wanted).max())
        np.testing.assert_allclose(found[1].states[field], wanted, atol=1e-6 * size)
