"""Sources affine in their own field: found by what a function does, and solved for once."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import taylor_rates
from smooth import box, evolve, matrix_of, wave, winds

import impindiff as ipd
from impindiff.coefficients import is_affine_in
from impindiff.implicit import Affine, Newton
from impindiff.latent import SineField, learned
from impindiff.linear import BiCGStab, Tridiagonal
from impindiff.precondition import Fourier, Jacobi, Multigrid
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import AffineTendency, Field, FluxOf, Reaction, Supply, System
from impindiff.terms import Advection, Diffusion, Dirichlet, NoFlux, Source

DOUBLE, SINGLE = jnp.dtype("float64"), jnp.dtype("float32")
GRID = box(6, 5)
K = jnp.asarray(wave(GRID))
TIGHT = Newton(BiCGStab(1e-13), BiCGStab(1e-12), rtol=1e-13)

AFFINE: dict[str, Callable] = {
    "decay": lambda u: -K * u,
    "exchange": lambda u: K * (3.0 - u) / 2,
    "switched in space": lambda u: jnp.where(K > 1, -K * u, 0.0),
    "no function of it": lambda u: 1.0,
    "of its shape only": lambda u: jnp.ones_like(u),
    "within jit": lambda u: jax.jit(lambda v: K - v)(u),
    "within checkpoint": lambda u: jax.checkpoint(lambda v: K - v)(u),
    "power of one": lambda u: u**1,
    "given is not affine": lambda u: jnp.tanh(K) ** 2 * u,
}


@jax.custom_jvp
def _its_own_derivative(u):
    return -u


_its_own_derivative.defjvp(lambda at, along: (-at[0], 2 * along[0]))

OTHER: dict[str, Callable] = {
    "square": lambda u: u * u,
    "power": lambda u: u**2,
    "magnitude": lambda u: jnp.abs(u),
    "switch": lambda u: jnp.where(u > 0, u, 2 * u),
    "masked by itself": lambda u: u * (u > 0),
    "largest": lambda u: jnp.maximum(u, 0),
    "saturating": lambda u: -u / (1 + u),
    "reciprocal": lambda u: 1 / u,
    "sum": lambda u: u - jnp.mean(u),
    "neighbour": lambda u: jnp.roll(u, 1),
    "reversed": lambda u: u[::-1],
    "one cell": lambda u: u[0, 0] * K,
    "within jit": lambda u: jax.jit(lambda v: v * v)(u),
    "branch": lambda u: jax.lax.cond(u[0, 0] > 0, lambda v: v, lambda v: 2 * v, u),
    "hidden from derivatives": lambda u: jax.lax.stop_gradient(u),
    "rounded": lambda u: u.astype(SINGLE),
    "derivative of its own": _its_own_derivative,
}


@pytest.mark.parametrize("function", AFFINE.values(), ids=AFFINE)
def test_what_is_affine_cell_by_cell_is_found(function):
    assert is_affine_in(function, jax.ShapeDtypeStruct(GRID.shape, DOUBLE))


@pytest.mark.parametrize("function", OTHER.values(), ids=OTHER)
def test_nothing_else_is_taken_for_it(function):
    assert not is_affine_in(function, jax.ShapeDtypeStruct(GRID.shape, DOUBLE))


def decaying(*reactions, grid=GRID, storage=None, **options) -> System:
    """Carried, diffusing and decaying."""
    moving = [Advection(winds(grid), "central"), Diffusion(0.05 * wave(grid))]
    return System(grid, {"u": Field([*moving, *reactions], storage=storage)}, **options)


def last(system: System, stepper, *, dtype=DOUBLE, count: int = 3, dt: float = 0.3):
    times = TimeGrid.build(0.0, [count * dt], dt)
    grid = system.grid
    assert grid is not None
    initial = {f: jnp.asarray(wave(grid, k), dtype) for k, f in enumerate(system.fields)}
    found = jax.jit(lambda: simulate(system, initial, times, stepper))()
    found.check(times)
    return jax.tree.map(lambda u: np.asarray(u[-1]), found.states), found.outcome


KINDS = {
    "number": decaying(Reaction(lambda u: -0.7 * u)),
    "array": decaying(Reaction(lambda u, k: -k * u, k=K)),
    "of place": decaying(Reaction(lambda u, x: -(x**2) * u)),
    "of time": decaying(Reaction(lambda u, t: -(1 + t) * u)),
    "coefficient": decaying(
        Reaction(lambda u, k: -k * u), coefficients={"k": lambda h, x: h * x, "h": 0.4}
    ),
    "whole rate by name": decaying(Reaction(lambda r: r), coefficients={"r": lambda u: 1 - 2 * u}),
    "two of them": decaying(Reaction(lambda u: -u), Source(1.5), Reaction(lambda u: 2 - K * u)),
    "beside one that is not": decaying(Reaction(lambda u: -u), Reaction(lambda u: -0.1 * u**2)),
    "with a capacity": decaying(Reaction(lambda u: -u), storage=1 + K),
    "without flux": System(GRID, {"u": [Reaction(lambda u, t: t - K * u)]}),
    "limited": System(
        GRID, {"u": [Advection(winds(GRID), "limited"), Reaction(lambda u: -2.0 * u)]}
    ),
}
NOT_AFFINE = ("beside one that is not", "limited")


@pytest.fixture
def as_any_function(monkeypatch):
    """Every source that depends on the state is taken for a nonlinear one."""
    return lambda: monkeypatch.setattr(
        "impindiff.systems._prepared.find_own_sources", lambda *_: frozenset()
    )


@pytest.mark.thorough
@pytest.mark.parametrize("name", KINDS)
def test_the_rate_is_that_of_the_function(name, as_any_function):
    system, state = KINDS[name], {"u": wave(GRID, 0.4)}
    found = system.prepare(DOUBLE)
    as_any_function()
    right = system.prepare(DOUBLE)
    assert found.is_affine is (name not in NOT_AFFINE)
    assert not right.is_affine
    assert found.is_steady == right.is_steady == (name not in ("of time", "without flux"))
    for time in (jnp.asarray(0.0), jnp.asarray(0.8)):
        rates = [prepared.at(time)(state)["u"] for prepared in (found, right)]
        np.testing.assert_allclose(*rates, rtol=1e-13, atol=1e-13)


STEPPERS = {
    "backward": lambda solver: ipd.BackwardEuler(solver),
    "trapezoid": lambda solver: ipd.CrankNicolson(solver),
    "sdirk": lambda solver: ipd.steppers.SDIRK2(solver),
}


@pytest.mark.thorough
@pytest.mark.parametrize("make", STEPPERS.values(), ids=STEPPERS)
@pytest.mark.parametrize("name", ["of time", "two of them", "with a capacity"])
def test_one_linear_solve_finds_what_newton_finds(name, make, as_any_function):
    once, _ = last(KINDS[name], make(Affine(BiCGStab(1e-13))))
    as_any_function()
    right, _ = last(KINDS[name], make(TIGHT))
    np.testing.assert_allclose(once["u"], right["u"], rtol=1e-10)


def test_what_depends_on_other_fields_or_neighbours_is_not_affine():
    """Only what a field does to itself, cell by cell, stands in its stencil."""
    exchange = {
        "u": [Diffusion(1.0), Reaction(lambda u, v: v - u)],
        "v": [Reaction(lambda v: -v)],
    }
    through_a_name = {"u": [Reaction(lambda r: r)], "v": [Reaction(lambda v: -v)]}
    by_name = System(GRID, through_a_name, coefficients={"r": lambda u, v: v - u})
    for system in (System(GRID, exchange), by_name):
        assert not system.prepare(DOUBLE).is_affine
    assert not System(None, {"u": [Reaction(lambda u: -u)]}).prepare(DOUBLE).is_affine


@pytest.mark.thorough
@pytest.mark.parametrize("dtype, slack", [(SINGLE, 1e-6), (DOUBLE, 1e-14)])
@pytest.mark.parametrize(
    "stepper, factor",
    [
        (ipd.BackwardEuler(), lambda h: 1 / (1 + h)),
        (ipd.CrankNicolson(), lambda h: (1 - h / 2) / (1 + h / 2)),
    ],
)
def test_decay_alone_is_its_closed_form(dtype, slack, stepper, factor):
    """$u_n = u_0\\,\\phi(k\\,\\Delta t)^n$ cell by cell, with $k$ over two orders of magnitude."""
    rates = 10.0 ** np.linspace(-1, 1, 30).reshape(GRID.shape)
    system = System(GRID, {"u": [Reaction(lambda u, k: -k * u, k=rates)]})
    found, _ = last(system, stepper, dtype=dtype)
    right = np.asarray(wave(GRID)) * factor(0.3 * rates) ** 3
    tolerance = max(slack, 1e-5 if stepper.solver is None else 0)  # the default solver's own
    assert found["u"].dtype == dtype
    np.testing.assert_allclose(found["u"], right, rtol=0, atol=tolerance)


@pytest.mark.thorough
def test_decay_beside_transport_is_the_exponential_of_the_matrix():
    """Steps get closer with their second order."""
    system = decaying(Reaction(lambda u, k: -k * u, k=K))
    tendency = system.prepare(DOUBLE).at(jnp.zeros(()))
    matrix = matrix_of(lambda u: tendency({"u": u})["u"], GRID.shape)
    right = evolve(matrix, wave(GRID), 0.5)

    def error(count: int) -> float:
        stepper = ipd.CrankNicolson(Affine(BiCGStab(1e-13)))
        found, _ = last(system, stepper, count=count, dt=0.5 / count)
        return float(np.abs(found["u"] - right).max())

    assert np.log2(error(10) / error(20)) == pytest.approx(2, abs=0.1)


@pytest.mark.thorough
def test_solvers_and_preconditioners_see_the_decay_in_the_stencil():
    """What is exact for constant coefficients, or for one axis, needs one iteration."""
    constant = System(GRID, {"u": [Diffusion(0.3), Reaction(lambda u: -40.0 * u)]})
    tendency = constant.prepare(DOUBLE).at(jnp.zeros(()))
    assert isinstance(tendency, AffineTendency)
    _, outcome = last(constant, ipd.BackwardEuler(preconditioner=Fourier()))
    assert set(outcome.iterations.tolist()) == {1}
    row = ipd.Grid([ipd.Axis.graded("x", 0, 1, 12, 3.0)])
    ends = {"x": (Dirichlet(1.0), NoFlux())}
    reaction = Reaction(lambda u, x: -1e4 * x**4 * u)
    held = System(row, {"u": Field([Diffusion(1.0), reaction], ends)})
    times = TimeGrid.build(0.0, [0.5], 0.5)
    direct = ipd.BackwardEuler(Affine(Tridiagonal()))
    found = simulate(held, {"u": jnp.ones(12)}, times, direct)
    assert set(found.outcome.iterations.tolist()) == {1}
    diagonal = held.prepare(DOUBLE).at(jnp.zeros(()))
    matrix = np.eye(12) - 0.5 * matrix_of(
        lambda u: diagonal({"u": u})["u"] - diagonal({"u": 0 * u})["u"], row.shape
    )
    rhs = 1 + 0.5 * np.asarray(diagonal({"u": jnp.zeros(12)})["u"])
    np.testing.assert_allclose(found.states["u"][-1], np.linalg.solve(matrix, rhs), rtol=1e-12)


@pytest.mark.thorough
@pytest.mark.parametrize("preconditioner", [None, Jacobi(), Fourier(), Multigrid()])
def test_decay_that_is_stiff_in_places_is_solved_for(preconditioner):
    solver = Affine(BiCGStab(1e-12, max_steps=500))
    stiff = decaying(Reaction(lambda u, k: -k * u, k=10.0 ** (3 * (K - 1))))
    found, _ = last(stiff, ipd.BackwardEuler(solver, preconditioner))
    right, _ = last(stiff, ipd.BackwardEuler(Affine(BiCGStab(1e-13, max_steps=500))))
    np.testing.assert_allclose(found["u"], right["u"], rtol=1e-9, atol=1e-11)


def field(name: str) -> SineField:
    made = SineField(2, (name,), width=4, depth=1, output_range=(0.2, 1.0), key=jax.random.key(1))
    return jax.tree.map(lambda a: a.astype(DOUBLE), made)


@pytest.mark.thorough
@pytest.mark.parametrize("stepper", [ipd.BackwardEuler, ipd.CrankNicolson, ipd.steppers.SDIRK2])
def test_gradients_reach_what_the_rate_is_made_of(stepper):
    """A learned field, a learned number under a time, and an array."""
    solver = Affine(BiCGStab(1e-13), BiCGStab(1e-12))
    times, start = TimeGrid.build(0.0, [0.4], 0.2), {"u": wave(GRID)}

    def loss(parts):
        rates = (
            Reaction(lambda u, k: -k * u, k=parts["field"]),
            Reaction(lambda u, t, h: -h * t * u, h=parts["number"]),
            Reaction(lambda u, a: a * (2.0 - u), a=parts["array"]),
        )
        system = decaying(*rates)
        assert system.prepare(DOUBLE).is_affine
        return jnp.sum(simulate(system, start, times, stepper(solver)).states["u"][-1] ** 2)

    number = ipd.Parameter("h", 0.5, (0.0, 2.0))
    number = jax.tree.map(lambda a: a.astype(DOUBLE), number)
    parts = {"field": field("k"), "number": number, "array": K}
    assert all(jax.tree.leaves(learned(parts["field"])))
    for rate in taylor_rates(loss, parts).values():
        assert rate == pytest.approx(2, abs=0.1)


def test_sample_parameters_may_be_rates():
    """It is known to be affine before they are given, and each sample has its own."""
    system = System(GRID, {"u": [Reaction(lambda u, k: -k * u)]}, parameters=("k",))
    shared = system.prepare_shared(DOUBLE)
    assert shared.is_affine

    def rate(k):
        return shared.with_sample_parameters({"k": k}).at(jnp.zeros(()))({"u": wave(GRID)})["u"]

    found = jax.vmap(rate)(jnp.array([0.5, 2.0]))
    np.testing.assert_allclose(found, [-0.5 * wave(GRID), -2.0 * wave(GRID)], rtol=1e-15)


def test_nothing_decays_in_solid_cells():
    solid = np.zeros(GRID.shape, bool)
    solid[2:4, 2] = True
    grid = ipd.Grid(GRID.axes, solid=solid)
    system = decaying(Reaction(lambda u: 1.0 - 3 * u), grid=grid)
    assert system.prepare(DOUBLE).is_affine
    found, _ = last(system, ipd.BackwardEuler())
    np.testing.assert_array_equal(found["u"][solid], np.asarray(wave(grid))[solid])


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:'u' rings:RuntimeWarning")
def test_what_decays_is_accounted_for():
    """What is inside, has decayed and came in adds up to round-off, though steps are long."""
    grid = ipd.Grid([ipd.Axis.graded("x", 0, 1, 12, 3.0)])
    system = System(
        grid,
        {
            "u": Field(
                [Diffusion(1.0), Reaction(lambda u, k: -k * u)], {"x": (Dirichlet(1.0), NoFlux())}
            )
        },
        coefficients={"k": lambda x: 5.0 * x},
        integrals={"gone": [Reaction(lambda u, k: k * u)], "came": [Supply(FluxOf("u"))]},
        balances={
            "all": {"in": lambda u: u, "gone": lambda gone: gone, "came": lambda came: -came}
        },
    )
    assert system.prepare(DOUBLE).is_affine
    state = {"u": jnp.zeros(12), "gone": jnp.zeros(12), "came": jnp.zeros(12)}
    times = TimeGrid.build(0.0, [0.4], 0.1)
    direct = ipd.CrankNicolson(Affine(Tridiagonal()))
    found = simulate(system, state, times, direct).states
    total = {name: float((u[-1] * grid.cell_volumes()).sum()) for name, u in found.items()}
    assert total["gone"] > 0.1
    assert total["u"] + total["gone"] == pytest.approx(total["came"], rel=1e-13)


def test_values_that_change_places_are_not_affine_cell_by_cell():
    square, like = (3, 3), jax.ShapeDtypeStruct((3, 3), jnp.float32)
    assert is_affine_in(lambda u: jax.lax.reshape(u, square), like)
    assert not is_affine_in(lambda u: -jax.lax.reshape(u, square, (1, 0)), like)


@pytest.mark.parametrize("k", [1e-6, 0.1])
def test_of_a_field_with_an_offset_the_difference_is_what_decays(k):
    """In single precision 290.001 is a number of four wrong digits; k (u - 290) has none."""
    start = 290 + np.array([2**-10, 0, -(2**-12)], np.float32)

    def rate(k):
        system = System(box(3), {"c": [Reaction(lambda c, k: -k * (c - 290.0), k=k)]})
        return system.prepare(SINGLE).at(jnp.zeros(()))({"c": jnp.asarray(start)})["c"]

    excess = np.array([2**-10, 0, -(2**-12)])
    found, slope = jax.jvp(rate, (jnp.float32(k),), (jnp.float32(1),))
    np.testing.assert_allclose(found, -np.float32(k) * excess, rtol=1e-6)
    np.testing.assert_allclose(slope, -excess, rtol=1e-6)


@pytest.mark.parametrize("k", [0.0, 1e-8, 1e-4])
def test_a_slow_decay_beside_a_source_has_its_slope(k):
    """It would vanish at 1 / k, from which nothing may be counted: d(1 - k c)/dk = -c."""
    start = jnp.asarray([32.1875, 3.0, 0.0], SINGLE)

    def rate(k):
        system = System(box(3), {"c": [Reaction(lambda c, k: 1.0 - k * c, k=k)]})
        return system.prepare(SINGLE).at(jnp.zeros(()))({"c": start})["c"]

    found, slope = jax.jvp(rate, (jnp.float32(k),), (jnp.float32(1),))
    np.testing.assert_allclose(found, 1 - k * np.asarray(start), rtol=1e-6)
    np.testing.assert_allclose(slope, -np.asarray(start), rtol=1e-6)
