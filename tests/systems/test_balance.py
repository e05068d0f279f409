"""Systems that store something other than their fields, algebraic fields, and fields' scales."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
from gradients import taylor_rates
from smooth import box, wave

from impindiff._errors import InputError
from impindiff._types import AbstractTendency
from impindiff.implicit import Newton
from impindiff.integrate import SDIRK2, BackwardEuler, CrankNicolson, ForwardEuler, RungeKutta4
from impindiff.latent import NeuralClosure, Parameter
from impindiff.linear import BiCGStab, DenseLU
from impindiff.precondition import BlockJacobi, Jacobi, LinearisedStep
from impindiff.rollout import TimeGrid, consistent, simulate
from impindiff.systems import Field, Reaction, System
from impindiff.terms import Diffusion, Robin, Source

DOUBLE = jnp.dtype("float64")
DIRECT = Newton(DenseLU(1e-13), DenseLU(1e-13), rtol=1e-13)
IMPLICIT = {
    "backward Euler": (BackwardEuler(DIRECT), 1),
    "Crank-Nicolson": (CrankNicolson(DIRECT), 2),
    "SDIRK-2": (SDIRK2(DIRECT), 2),
}
EACH = pytest.mark.parametrize("stepper, order", IMPLICIT.values(), ids=IMPLICIT)


def end(system: System, initial, until: float, num_steps: int, stepper) -> dict:
    times = TimeGrid.build(0.0, [until], until / num_steps)
    found = jax.jit(lambda u: simulate(system, u, times, stepper))(initial)
    found.check(times)
    return {field: np.asarray(u[-1]) for field, u in found.states.items()}


def pore() -> System:
    """Gas in pores that close as it reacts: what is stored is the gas in the pores."""
    return System(
        box(6),
        {
            "gas": Field(
                [
                    Diffusion(lambda porosity: 0.1 * porosity**1.5),
                    Reaction(lambda porosity, gas: -porosity * gas),
                ],
                storage=lambda porosity, gas: porosity * gas,
            ),
            "porosity": [Reaction(lambda porosity, gas: -porosity * gas)],
        },
    )


PORES = {"gas": wave(box(6)), "porosity": 0.5 + 0.2 * wave(box(6), 1.0)}


@pytest.mark.thorough
@EACH
def test_what_is_stored_is_conserved_and_not_the_field(stepper, order: int):
    """Every mole that leaves the gas has closed a pore: porosity * gas - porosity is constant."""
    found = end(pore(), PORES, 1.0, 8, stepper)

    def total(state):
        return float(np.sum(state["porosity"] * (state["gas"] - 1)))

    assert abs(total(found) - total(PORES)) < 1e-11
    assert abs(float(np.sum(found["gas"]) - np.sum(PORES["gas"]))) > 0.1


@pytest.mark.thorough
@EACH
def test_order_with_a_storage(stepper, order: int):
    """d(u^2)/dt = -u^3: u = u0 / (1 + u0 t / 2)."""
    system = System(box(4), {"u": Field([Reaction(lambda u: -(u**3))], storage=lambda u: u**2)})
    start = wave(box(4))

    def error(num_steps: int) -> float:
        found = end(system, {"u": start}, 1.0, num_steps, stepper)["u"]
        return float(np.linalg.norm(found - start / (1 + start / 2)))

    assert np.log2(error(32) / error(64)) == pytest.approx(order, abs=0.1)


@pytest.mark.thorough
@EACH
def test_order_of_an_algebraic_field(stepper, order: int):
    """u' = -z, 0 = u^2 - z: u = u0 / (1 + u0 t), from a start that is consistent."""
    system = System(
        None,
        {"u": [Reaction(lambda z: -z)], "z": Field([Reaction(lambda u, z: u**2 - z)], storage=0)},
    )
    start, outcome = consistent(system, {"u": jnp.array(2.0), "z": jnp.array(1.0)})
    assert bool(outcome.converged) and float(start["z"]) == pytest.approx(4.0, rel=1e-6)
    start["z"] = start["u"] ** 2

    def error(num_steps: int) -> tuple[float, float]:
        found = end(system, start, 1.0, num_steps, stepper)
        return abs(found["u"] - 2 / 3), abs(found["z"] - 4 / 9)

    for coarse, fine in zip(error(32), error(64), strict=True):
        assert np.log2(coarse / fine) == pytest.approx(order, abs=0.1)


def test_a_wrong_start_of_an_algebraic_field_is_forgotten_at_once():
    """By the mean over the step Crank-Nicolson would hand it on, reversed, for ever."""
    system = System(
        None,
        {"u": [Source(1.0)], "z": Field([Reaction(lambda u, z: u - z)], storage=0)},
    )
    start = {"u": jnp.array(0.0), "z": jnp.array(5.0)}
    found = end(system, start, 1.0, 4, CrankNicolson(DIRECT))
    assert found["z"] == pytest.approx(1.0, abs=1e-12)


@pytest.mark.thorough
def test_a_capacity_is_a_factor_and_keeps_the_system_affine():
    """Heat in a rod of varying capacity: c u' = (k u')' is u' = (k u')' / c."""
    grid = box(5)
    capacity = 1 + wave(grid)
    system = System(grid, {"T": Field([Diffusion(0.1), Source(2.0)], storage=capacity)})
    dynamics = system.prepare(DOUBLE)
    assert dynamics.is_affine and dynamics.has_storage
    tendency = dynamics.at(jnp.zeros(()))
    assert isinstance(tendency, AbstractTendency)
    np.testing.assert_allclose(
        tendency.stored({"T": wave(grid, 1.0)})["T"], capacity * wave(grid, 1.0)
    )
    matrix = jax.jacfwd(lambda u: tendency({"T": u})["T"])(wave(grid)) / capacity[:, None]
    rate = 2 / capacity
    dt = 0.1
    expected = np.linalg.solve(np.eye(5) - dt * matrix, wave(grid) + dt * rate)
    found = end(system, {"T": wave(grid)}, dt, 1, BackwardEuler())
    np.testing.assert_allclose(found["T"], expected, rtol=1e-6)


@pytest.mark.thorough
def test_a_quasi_steady_field_is_solved_in_every_step():
    """0 = p'' - p + c, with a wave for c: p = c / (1 + k^2), which drives c' = -p."""
    grid = box(8)
    mode = jnp.asarray(np.cos(2 * np.pi * np.arange(8) / 8))
    system = System(
        grid,
        {
            "p": Field([Diffusion(0.3), Reaction(lambda c, p: c - p)], storage=0),
            "c": [Reaction(lambda p: -p)],
        },
    )
    symbol = 4 * 0.3 / grid.cell_widths[0] ** 2 * np.sin(np.pi / 8) ** 2
    rate = 1 / (1 + symbol)
    dt, steps = 0.25, 4
    found = end(system, {"c": mode, "p": 0 * mode}, dt * steps, steps, BackwardEuler(DIRECT))
    expected = mode / (1 + dt * rate) ** steps
    np.testing.assert_allclose(found["c"], expected, atol=1e-11)
    np.testing.assert_allclose(found["p"], rate * expected, atol=1e-11)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "preconditioner",
    [None, pytest.param(Jacobi(), marks=pytest.mark.slow)],
    ids=["plain", "jacobi"],
)
def test_units_change_nothing_where_scales_are_given(preconditioner):
    """Gas in units 16384 times as large: the same iterations, and the same gas."""
    solver = Newton(BiCGStab(1e-9), BiCGStab(1e-9), rtol=1e-9)

    def run(unit: float):
        system = System(
            box(6),
            {
                "gas": Field(
                    [
                        Diffusion(lambda porosity: 0.1 * porosity**1.5),
                        Reaction(lambda porosity, gas: -porosity * gas),
                    ],
                    storage=lambda porosity, gas: porosity * gas,
                    scale=unit,
                ),
                "porosity": [Reaction(lambda porosity, gas: -porosity * gas / unit)],
                "level": Field(
                    [Diffusion(0.1), Reaction(lambda gas, level: gas - level)],
                    storage=0,
                    scale=unit,
                ),
            },
        )
        initial = PORES | {"gas": unit * PORES["gas"], "level": unit * PORES["gas"]}
        times = TimeGrid.build(0.0, [0.4], 0.2)
        stepper = CrankNicolson(solver, preconditioner)
        return jax.jit(lambda u: simulate(system, u, times, stepper))(initial)

    plain = run(1.0)
    scaled = run(2.0**-14)
    assert bool(plain.outcome.converged.all()) and bool(scaled.outcome.converged.all())
    assert scaled.outcome.iterations.tolist() == plain.outcome.iterations.tolist()
    for field, values in plain.states.items():
        unit = 1.0 if field == "porosity" else 2.0**14
        np.testing.assert_allclose(unit * scaled.states[field], values, rtol=1e-10)


@pytest.mark.thorough
@pytest.mark.parametrize("make", [Jacobi(), BlockJacobi()], ids=["jacobi", "block-jacobi"])
def test_preconditioners_know_the_storage(make):
    """With storage q' = 2, 1/2 and no storage, and no coupling of cells, they are the inverse."""
    system = System(
        box(4),
        {
            name: Field([Reaction(lambda u, k: -k * u, fields=(name,), k=3.0)], storage=storage)
            for name, storage in {"a": lambda a: 2 * a + 1, "b": 0.5, "c": 0}.items()
        },
    )
    state = {name: wave(box(4), k) for k, name in enumerate("abc")}
    weight = jnp.array(0.2)
    tendency = system.prepare(DOUBLE).at(jnp.zeros(()))
    found = make.make(LinearisedStep(tendency, weight, state)).apply(state)
    for name, capacity in (("a", 2.0), ("b", 0.5), ("c", 0.0)):
        np.testing.assert_allclose(found[name], state[name] / (capacity + 0.2 * 3), rtol=1e-12)


@pytest.mark.parametrize("name", ["Crank-Nicolson", "SDIRK-2"])
@pytest.mark.slow
def test_gradients_leave_second_order_remainders(name: str):
    """With respect to parts of the storage, learned and not, the closure's and the start."""
    grid, (stepper, _) = box(4), IMPLICIT[name]
    network = NeuralClosure(
        "capacity", {"u": (0.0, 2.0)}, bounds=(0.5, 2.0), width=3, depth=1, key=jax.random.key(0)
    )
    network = jax.tree.map(lambda a: a.astype(DOUBLE) + 0.3, network)
    parts = {
        "capacity": network,
        "rate": Parameter("k", 0.7, (0.0, jnp.inf)),
        "initial": {"u": wave(grid), "p": 0.5 * wave(grid, 1.0), "w": wave(grid, 2.0)},
    }
    parts["rate"] = jax.tree.map(lambda a: a.astype(DOUBLE), parts["rate"])
    times = TimeGrid.build(0.0, [0.3], 0.15)

    def loss(given):
        system = System(
            grid,
            {
                "u": Field(
                    [Diffusion(0.1), Reaction(lambda u, p: -p * u)],
                    storage=lambda u, capacity: capacity * u,
                    scale=3.0,
                ),
                "p": Field([Diffusion(0.2), Reaction(lambda u, p, k: k * u - p - p**3)], storage=0),
                "w": Field(
                    [Reaction(lambda w, u: -w * u)], storage=lambda w, k: w + k * w**2, scale=0.2
                ),
            },
            coefficients={"k": given["rate"], "capacity": given["capacity"]},
        )
        found = simulate(system, given["initial"], times, stepper).states
        return sum(jnp.sum(jnp.exp(u[-1])) for u in found.values())

    rates = taylor_rates(loss, parts, step=3e-2)
    assert rates == pytest.approx(dict.fromkeys(parts, 2), abs=0.1)


@pytest.mark.thorough
@pytest.mark.parametrize("stepper", [ForwardEuler(), RungeKutta4()], ids=["Euler", "RK4"])
def test_explicit_steppers_refuse_a_storage(stepper):
    times = TimeGrid.build(0.0, [0.1], 0.1)
    with pytest.raises(InputError, match="use SDIRK2, CrankNicolson or BackwardEuler"):
        simulate(pore(), PORES, times, stepper)
    plain = System(box(6), {"u": Field([Source(1.0)], scale=3.0)})
    found = simulate(plain, {"u": wave(box(6))}, times, stepper).states["u"][-1]
    np.testing.assert_allclose(found, wave(box(6)) + 0.1, rtol=1e-12)


@pytest.mark.parametrize(
    "storage, said",
    [
        (True, "the storage of 'u' is True: give a function"),
        ("k", "the storage of 'u' is 'k': give a function"),
        (lambda u, w: u * w, "in the storage of 'u' asks for 'w'"),
    ],
)
def test_storages_that_make_no_sense_are_refused(storage, said: str):
    v = Field([Source(1.0)], storage=0.0)
    with pytest.raises(InputError, match=said):
        System(box(4), {"u": Field([Source(1.0)], storage=storage), "v": v})


def test_a_storage_of_another_shape_is_refused():
    system = System(None, {"u": Field([Source(1.0)], storage=lambda u: jnp.stack([u, u]))})
    with pytest.raises(InputError, match=r"the storage of 'u' has the shape \(2,\)"):
        simulate(system, {"u": jnp.ones(())}, TimeGrid.build(0.0, [1.0], 1.0), BackwardEuler())


def test_a_start_without_algebraic_fields_needs_no_solve():
    with pytest.raises(InputError, match="no algebraic fields"):
        consistent(pore(), PORES)


@pytest.mark.parametrize("scale", ["a", 0.0, -1.0, True, [1.0, 2.0]])
def test_a_scale_that_is_no_positive_number_is_refused(scale):
    with runtime_types.without(), pytest.raises(InputError, match="scale of 'u'.*positive number"):
        System(None, {"u": Field([Source(1.0)], scale=scale)})


@pytest.mark.parametrize("capacity", [-1.0, np.array([1.0, 0.0, 1.0]), float("nan")])
def test_a_capacity_that_is_not_positive_is_refused(capacity):
    with pytest.raises(InputError, match="a capacity must be positive"):
        System(box(3), {"c": Field([Diffusion(0.1)], storage=capacity)})


@pytest.mark.thorough
def test_a_transfer_that_feeds_on_what_it_takes_is_refused():
    with pytest.raises(InputError, match=r"the transfer of Robin is -2\.0"):
        Robin(-2.0, 1.0)
