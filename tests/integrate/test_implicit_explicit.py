"""Methods that solve for what is stiff only: orders, what is solved for, and what is conserved."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import taylor_rates
from scipy.integrate import solve_ivp

import impindiff as ipd
from impindiff import InputError
from impindiff.implicit import Affine, Newton
from impindiff.linear import BiCGStab, DenseLU
from impindiff.precondition import Fourier
from impindiff.steppers import (
    ARK3,
    ARK4,
    ARK5,
    ESDIRK4,
    StepControl,
    simulate_controlled,
    stable_dt,
)
from impindiff.systems import FluxOf, Supply

CELLS = 12
GRID = ipd.Grid([ipd.Axis("x", 0.0, 1.0, CELLS)])
RING = ipd.Grid([ipd.Axis("x", 0.0, 1.0, CELLS, periodic=True)])
X = (np.arange(CELLS) + 0.5) / CELLS
START = {"u": jnp.asarray(1 + 0.5 * np.sin(2 * np.pi * X))}
METHODS = [(ARK3, 3), (ARK4, 4), (ARK5, 5)]
LU = Newton(DenseLU(), rtol=1e-13)


def burgers(nu: Any = 0.02, scheme: Any = "central", **field: Any) -> ipd.System:
    terms = [ipd.Advection(lambda u: u / 2, scheme), ipd.Diffusion(nu)]
    return ipd.System(RING, {"u": ipd.Field(terms, **field)})


def end(system: ipd.System, start: dict, stepper: Any, steps: int, until: float = 0.5) -> dict:
    times = ipd.TimeGrid.build(0.0, [until], until / steps)
    found = jax.jit(lambda start: ipd.simulate(system, start, times, stepper).states)(start)
    return {field: np.asarray(u[-1]) for field, u in found.items()}


def differences(u: np.ndarray, nu: float, flux: Any) -> np.ndarray:
    """The rates of a ring of cells, in plain numbers."""
    above = np.roll(u, -1)
    through = (flux(u) + flux(above)) / 2 - nu * CELLS * (above - u)
    return -CELLS * (through - np.roll(through, 1))


def reference(rate: Any, start: Any, until: float = 0.5) -> np.ndarray:
    found = solve_ivp(rate, (0, until), start, method="DOP853", rtol=1e-13, atol=1e-13)
    return found.y[:, -1]


def measured_order(error: Any, steps: int) -> float:
    return float(np.log2(error(steps) / error(2 * steps)))


@pytest.mark.many
@pytest.mark.parametrize("make, order", METHODS)
def test_the_order_of_burgers_equation(make, order: int):
    exact = reference(lambda t, u: differences(u, 0.02, lambda u: u**2 / 2), START["u"])

    def error(steps: int) -> float:
        return np.abs(end(burgers(), START, make(Affine(DenseLU())), steps)["u"] - exact).max()

    assert measured_order(error, 16) == pytest.approx(order, abs=0.2)


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize("make, order", METHODS)
def test_the_order_with_a_storage(make, order: int):
    r"""$\frac{d}{dt}(u + u^2 / 2) = (1 + u)\,\dot u$."""
    system = burgers(storage=lambda u: u + u**2 / 2)
    exact = reference(lambda t, u: differences(u, 0.02, lambda u: u**2 / 2) / (1 + u), START["u"])

    def error(steps: int) -> float:
        return np.abs(end(system, START, make(LU), steps)["u"] - exact).max()

    assert measured_order(error, 8) == pytest.approx(order, abs=0.3)


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize("make, order", METHODS)
def test_the_order_with_an_algebraic_field(make, order: int):
    """The flow follows from the field by an equation of its own, with a capacity besides."""
    system = ipd.System(
        RING,
        {
            "u": ipd.Field(
                [ipd.Advection(lambda flow: flow, "central"), ipd.Diffusion(0.02)], storage=2.0
            ),
            "flow": ipd.Field([ipd.Reaction(lambda u, flow: 1 + u**2 - flow)], storage=0),
        },
    )
    exact = reference(lambda t, u: differences(u, 0.02, lambda u: u * (1 + u**2)) / 2, START["u"])
    start = START | {"flow": 1 + START["u"] ** 2}

    def errors(steps: int) -> np.ndarray:
        found = end(system, start, make(LU), steps)
        return np.array(
            [np.abs(found["u"] - exact).max(), np.abs(found["flow"] - 1 - exact**2).max()]
        )

    found = np.log2(errors(16) / errors(32))
    np.testing.assert_allclose(found, order, atol=0.35)


@pytest.mark.parametrize(
    "capacity", [pytest.param(None, marks=pytest.mark.thorough), lambda x: 1 + x]
)
def test_one_linear_solve_a_stage_is_exact_where_only_advection_is_not_linear(capacity):
    """And refused where all of it is solved for."""
    system = burgers(storage=capacity)
    linear = Affine(BiCGStab(1e-13), BiCGStab(1e-12))
    found, newton = (end(system, START, ARK4(solver), 5) for solver in (linear, LU))
    np.testing.assert_allclose(found["u"], newton["u"], rtol=1e-10)
    with pytest.raises(InputError, match="not affine"):
        end(system, START, ESDIRK4(linear), 5)
    fine = end(system, START, ESDIRK4(LU), 40)
    np.testing.assert_allclose(found["u"], fine["u"], atol=2e-3)


@pytest.mark.parametrize("term", ["advection", "reaction", "diffusion"])
def test_what_is_explicit_is_said_by_each_term(term: str):
    """It shows in what can be solved by one linear solve."""
    system = ipd.System(
        RING,
        {
            "u": [
                ipd.Advection(lambda u: u, is_explicit=term != "advection"),
                ipd.Reaction(lambda u: u - u**3, is_explicit=term != "reaction"),
                ipd.Diffusion(0.1 if term != "diffusion" else lambda u: 0.1 * (1 + u)),
            ]
        },
    )
    part = system.prepare(jnp.dtype("float64")).implicit_part()
    assert not part.is_affine
    changed = burgers().prepare(jnp.dtype("float64"))
    assert not changed.is_affine and changed.implicit_part().is_affine


def test_what_flows_in_is_explicit_and_what_diffuses_in_is_not():
    """The two parts add up, at the ends, too."""
    moving = [ipd.Advection(lambda u: 1 + u, "limited"), ipd.Diffusion(0.3)]
    ends = {"x": (ipd.Inflow(lambda t: 2 + t), ipd.Dirichlet(3.0))}
    whole = ipd.System(GRID, {"u": ipd.Field(moving, ends)}).prepare(jnp.dtype("float64"))
    part, now = whole.implicit_part(), jnp.asarray(0.5)
    rates = part.at(now)(START)["u"]
    # Between a wall and a temperature that is given half a cell away.
    padded = np.concatenate([START["u"][:1], START["u"], [2 * 3.0 - START["u"][-1]]])
    np.testing.assert_allclose(rates, 0.3 * CELLS**2 * np.diff(padded, 2), rtol=1e-10, atol=1e-10)
    rest = ARK4().stepped_part(whole).at(now)(START)["u"]
    np.testing.assert_allclose(rest + rates, whole.at(now)(START)["u"], rtol=1e-12)


def test_equations_without_storage_are_solved_for_as_a_whole():
    """Whatever their terms say: nothing else would hold at the end of a stage."""
    following = [
        ipd.Advection(1.0, "central"),
        ipd.Diffusion(0.1),
        ipd.Reaction(lambda u, v: u - v),
    ]
    fields = {"u": [ipd.Advection(1.0, "central")], "v": ipd.Field(following, storage=0)}
    whole = ipd.System(RING, fields).prepare(jnp.dtype("float64"))
    state = START | {"v": START["u"] ** 2}
    rates, solved = (each.at(jnp.zeros(()))(state) for each in (whole, whole.implicit_part()))
    np.testing.assert_allclose(solved["v"], rates["v"], rtol=1e-12)
    np.testing.assert_array_equal(solved["u"], 0)


def open_pore(k: Any = 0.3) -> ipd.System:
    """A gas that flows through pores that it closes, and an account of what came in."""
    moving = [
        ipd.Advection(lambda gas: 1 + 0.5 * gas, "upwind"),
        ipd.Diffusion(lambda pores: 0.1 * pores),
        ipd.Reaction(lambda r: -r),
    ]
    return ipd.System(
        GRID,
        {
            "gas": ipd.Field(
                moving,
                {"x": (ipd.Inflow(lambda t: 1 + t), ipd.Outflow())},
                storage=lambda gas, pores: gas * pores,
            ),
            "pores": [ipd.Reaction(lambda r: -r)],
        },
        coefficients={"r": lambda gas, pores, k: k * gas**2 * pores, "k": k},
        integrals={"supplied": [Supply(FluxOf("gas"))]},
        balances={
            "mass": {
                "inside": lambda gas, pores: gas * pores,
                "deposited": lambda pores: -pores,
                "supplied": lambda supplied: -supplied,
            }
        },
    )


def filled() -> dict[str, jax.Array]:
    return {
        "gas": jnp.full(CELLS, 0.5),
        "pores": jnp.full(CELLS, 0.8),
        "supplied": jnp.zeros(CELLS),
    }


@pytest.mark.thorough
def test_totals_change_by_what_passes_the_ends():
    """What is explicit among it, with a storage and an account of it."""

    def mass(state: dict) -> float:
        return float(np.sum(state["gas"] * state["pores"] - state["pores"] - state["supplied"]))

    found = end(open_pore(), filled(), ARK4(LU), 4, until=0.15)
    assert abs(found["gas"] - 0.5).max() > 0.1
    assert mass(found) == pytest.approx(mass(filled()), rel=1e-14)


def test_on_a_ring_the_total_stays():
    """Of limited fluxes, in steps that are one linear solve a stage."""
    ring = end(burgers(scheme="limited"), START, ARK3(), 10)
    assert ring["u"].sum() == pytest.approx(float(START["u"].sum()), rel=1e-14)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "make, memory",
    [
        (burgers, ipd.memory.KeepAll()),
        (burgers, ipd.memory.Snapshots(2)),
        pytest.param(open_pore, ipd.memory.Snapshots(1), marks=pytest.mark.slow),
    ],
)
def test_gradients_leave_second_order_remainders(make, memory):
    """Of one linear solve a stage, and of Newton's method with a storage and an integral."""
    start, solver = (START, None) if make is burgers else (filled(), LU)
    times = ipd.TimeGrid.build(0.0, [0.04, 0.08], 0.04)

    def loss(parts: dict[str, Any]) -> Any:
        system = make(parts["k"])
        found = ipd.simulate(system, parts["start"], times, ARK3(solver), memory=memory).states
        weights = np.arange(CELLS) % 4
        return sum(jnp.sum(weights * u[-1] ** 3) for u in found.values())

    rates = taylor_rates(loss, {"k": jnp.asarray(0.3), "start": start})
    assert all(rate >= 1.9 for rate in rates.values()), rates


def test_what_has_no_explicit_term_is_solved_for():
    """And the method is the implicit one that it is made of."""
    rod = ipd.System(GRID, {"u": ipd.Field([ipd.Diffusion(1.0)], {"x": ipd.Dirichlet(1.0)})})
    tight = Affine(DenseLU())
    found, same = (end(rod, START, make(tight), 4) for make in (ARK4, ESDIRK4))
    np.testing.assert_allclose(found["u"], same["u"], rtol=1e-12)


def test_one_preconditioner_serves_all_steps():
    """It is of what is solved for: with steady coefficients it stays right."""
    solver = Affine(BiCGStab(1e-12), BiCGStab(1e-12))
    found, same = (
        end(burgers(), START, ARK4(solver, Fourier(), keep), 5) for keep in (None, False)
    )
    np.testing.assert_allclose(found["u"], same["u"], rtol=1e-10)
    times = ipd.TimeGrid.build(0.0, [0.1], 0.05)
    steps = ipd.simulate(burgers(), START, times, ARK4(solver, Fourier())).outcome
    # The inverse of constant diffusion on a ring is exact: an iteration or two for each solve.
    assert int(steps.iterations.max()) <= 2 * 5


def test_steps_follow_their_error_and_flow_alone_limits_them():
    exact = reference(lambda t, u: differences(u, 0.02, lambda u: u**2 / 2), START["u"])
    for rtol in (1e-3, 1e-5):
        found = simulate_controlled(burgers(), START, [0.0, 0.5], ARK4(), StepControl(rtol))
        assert np.abs(found.states["u"][-1] - exact).max() < 10 * rtol


@pytest.mark.parametrize("make", [ARK3, ARK4, ARK5])
def test_the_longest_stable_step_is_that_of_the_flow(make):
    r"""$2 v / \Delta x$ of upwind differences, whatever diffuses."""
    system = ipd.System(RING, {"u": [ipd.Advection(1.5), ipd.Diffusion(100.0)]})
    rough = {"u": jnp.asarray(np.random.default_rng(0).standard_normal(CELLS))}
    limit = make().tableau.explicit.stability_limit / (2 * 1.5 * CELLS)
    assert stable_dt(system, rough, make()) == pytest.approx(limit, rel=0.05)


def test_steps_longer_than_the_flow_allows_are_warned_of():
    system = ipd.System(RING, {"u": [ipd.Advection(1.0), ipd.Diffusion(1e-6)]})
    rough = {"u": jnp.asarray(np.random.default_rng(0).standard_normal(CELLS))}
    times = ipd.TimeGrid.build(0.0, [20.0], 0.4)
    said = "times the longest that ARK4 keeps from growing.*, is_explicit=False, or use ESDIRK4"
    with pytest.warns(RuntimeWarning, match=said):
        ipd.simulate(system, rough, times, ARK4())
