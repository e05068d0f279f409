"""Steppers without a solver choose one, say why, and solve what they are given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impindiff._errors import InputError
from impindiff.grid import Axis, Grid
from impindiff.implicit import Affine, Newton
from impindiff.integrate import BackwardEuler, RungeKutta4, Theta
from impindiff.linear import Automatic, BiCGStab, DenseLU, Tridiagonal
from impindiff.rollout import TimeGrid, select_solver, simulate
from impindiff.systems import Field, Reaction, System
from impindiff.terms import Advection, Diffusion, Dirichlet, Inflow, NoFlux, Outflow, Source

SQUARE = Grid.uniform((24, 20), ((0, 1), (0, 1)))
ROW = Grid.uniform((60,), ((0, 1),))


def held(grid: Grid) -> dict:
    return dict.fromkeys(grid.names, Dirichlet(0.0))


def hill(grid: Grid) -> np.ndarray:
    return np.exp(-sum(((x - 0.4) / 0.2) ** 2 for x in grid.centres()))


def diffusing(grid: Grid, diffusivity) -> System:
    return System(grid, {"u": Field([Diffusion(diffusivity)], held(grid))})


def layers() -> np.ndarray:
    return np.where(np.arange(20) // 5 % 2, 1.0, 1e-4)[None, :] * np.ones((24, 1))


def blocks() -> np.ndarray:
    return (
        np.where(np.random.default_rng(0).integers(0, 2, (6, 5)), 1.0, 1e-4)
        .repeat(4, 0)
        .repeat(4, 1)
    )


def windy() -> System:
    ends = {"x": (Inflow(1.0), Outflow()), "y": NoFlux()}
    terms = [Advection(jnp.array([1.0, 0.0])), Diffusion(1e-3)]
    return System(SQUARE, {"u": Field(terms, ends)})


def reacting(grid: Grid, rate: float, diffusivity: float) -> System:
    def loss(u, v):
        return rate * (u - v**2)

    u = [Diffusion(diffusivity), Reaction(lambda u, v: -loss(u, v))]
    v = [Diffusion(diffusivity / 2), Reaction(loss)]
    return System(grid, {"u": Field(u, held(grid)), "v": Field(v, held(grid))})


def darcy() -> System:
    x, y = SQUARE.centres()
    u = [Diffusion(np.exp(np.sin(9 * x) * np.cos(7 * y))), Source(1.0)]
    ends = held(SQUARE)
    return System(SQUARE, {"u": Field(u, ends, storage=0), "v": Field([Diffusion(0.1)], ends)})


GRADED = Grid([Axis.graded("x", 0, 1, 24, 50.0), Axis.graded("y", 0, 1, 20, 50.0)])
AROUND = Grid.uniform(
    (48, 40), ((0, 1), (0, 1)), solid=lambda x, y: (x - 0.4) ** 2 + (y - 0.5) ** 2 < 0.04
)
LOG = Grid([Axis.from_faces("r", np.geomspace(0.1, 100.0, 61))], "cylindrical")
MEANS = {"fourier", "transform_line(0)", "transform_line(1)"}
PROBLEMS = {
    "mild": (diffusing(SQUARE, 1e-4), 0.1, {"none"}),
    "constant": (diffusing(SQUARE, 1.0), 0.5, {"fourier"}),
    "layers": (diffusing(SQUARE, layers()), 0.5, {"transform_line(1)"}),
    "blocks": (diffusing(SQUARE, blocks()), 0.05, {"none", "jacobi", "block_line(0)"}),
    "wind": (windy(), 0.5, {"block_line(0)", "transform_line(0)"}),
    "graded": (diffusing(GRADED, 1.0), 0.5, {"jacobi", "block_line(0)"}),
    "log radius": (
        System(LOG, {"u": Field([Diffusion(1.0)], {"r": Dirichlet(0.0)})}),
        10.0,
        {"elimination"},
    ),
    "row": (diffusing(ROW, 1.0), 0.5, {"elimination"}),
    "mild row": (diffusing(ROW, 1e-5), 0.1, {"none"}),
    "coupled row": (reacting(ROW, 10.0, 1.0), 0.1, {"elimination"}),
    "darcy": (darcy(), 0.1, {"fourier", "jacobi"}),
    "obstacle": (
        diffusing(AROUND, 1.0),
        0.5,
        {"fourier", "transform_line(0)", "transform_line(1)"},
    ),
    "reacting": (reacting(SQUARE, 500.0, 1e-6), 0.1, {"none", "block_jacobi"}),
    "reacting and spreading": (
        reacting(SQUARE, 500.0, 1.0),
        0.1,
        {*MEANS, "block_jacobi"},
    ),
    "ring": (
        System(Grid.uniform((60,), ((0, 1),), periodic=True), {"u": [Diffusion(1.0)]}),
        0.5,
        {"elimination"},
    ),
}


def start_of(system: System) -> dict:
    assert system.grid is not None
    return {
        field: jnp.asarray(hill(system.grid) + number)
        for number, field in enumerate(sorted(system.fields))
    }


def last(system: System, dt: float, stepper, initial=None) -> tuple[dict, bool]:
    times = TimeGrid.build(0.0, [3 * dt], dt)
    initial = start_of(system) if initial is None else initial
    found = jax.jit(lambda u: simulate(system, u, times, stepper))(initial)
    return {f: np.asarray(u[-1]) for f, u in found.states.items()}, bool(
        found.outcome.converged.all()
    )


@pytest.mark.thorough
@pytest.mark.parametrize("name", PROBLEMS)
def test_what_is_chosen_solves_the_steps(name: str):
    # Of methods that cost nearly the same either may be chosen.
    system, dt, expected = PROBLEMS[name]
    choice = select_solver(system, start_of(system), dt, BackwardEuler())
    assert choice.name in expected, (choice.reason, choice.costs)
    assert choice.reason.startswith(choice.name) and choice.reason.endswith(".")
    is_affine = system.prepare(jnp.dtype("float64")).is_affine
    direct = DenseLU(1e-12)
    exact, _ = last(
        system, dt, BackwardEuler(Affine(direct) if is_affine else Newton(direct, rtol=1e-10))
    )
    found, converged = last(system, dt, choice.stepper)
    assert converged
    for field, values in exact.items():
        np.testing.assert_allclose(found[field], values, atol=2e-5 * np.abs(values).max())


def test_the_cheapest_of_what_was_compared_is_chosen():
    choice = select_solver(*PROBLEMS["constant"][:1], start_of(diffusing(SQUARE, 1.0)), 0.5)
    assert choice.name == min(choice.costs, key=lambda name: choice.costs[name])
    assert "diffusion number" in choice.reason and "in place of" in choice.reason


@pytest.mark.parametrize(
    "stepper", [BackwardEuler(Affine(BiCGStab(1e-7))), Theta(0.5, Affine(Tridiagonal()), None)]
)
def test_an_explicit_choice_wins(stepper):
    choice = select_solver(diffusing(ROW, 1.0), start_of(diffusing(ROW, 1.0)), 0.5, stepper)
    assert choice.name == "given" and choice.stepper is stepper and not choice.costs


def test_an_explicit_step_has_nothing_to_choose():
    choice = select_solver(diffusing(ROW, 1.0), start_of(diffusing(ROW, 1.0)), 1e-5, RungeKutta4())
    assert choice.name == "given"


def test_tolerances_of_what_is_open_are_kept():
    stepper = BackwardEuler(Affine(Automatic(1e-9), Automatic(1e-8)))
    choice = select_solver(diffusing(ROW, 1.0), start_of(diffusing(ROW, 1.0)), 0.5, stepper)
    assert isinstance(choice.stepper, Theta)
    assert choice.stepper.solver == Affine(Tridiagonal(1e-9), Tridiagonal(1e-8))


def test_a_traced_system_cannot_be_looked_at():
    def choose(diffusivity):
        system = diffusing(ROW, diffusivity)
        return select_solver(system, start_of(system), 0.5).name

    with pytest.raises(InputError, match="select_solver looks at the coefficients"):
        jax.jit(choose)(1.0)


@pytest.mark.thorough
@pytest.mark.parametrize("cells", [1, 2, 3])
def test_rows_of_few_cells(cells: int):
    system = diffusing(Grid.uniform((cells,), ((0, 1),)), 1.0)
    found, converged = last(system, 0.5, BackwardEuler())
    exact, _ = last(system, 0.5, BackwardEuler(Affine(DenseLU(1e-13))))
    assert converged
    np.testing.assert_allclose(found["u"], exact["u"], rtol=1e-5)


@pytest.mark.thorough
def test_gradients_go_through_what_is_chosen_under_jit():
    """In the row plain iterations are not enough, forward or back."""

    def loss(diffusivity, stepper):
        system = diffusing(ROW, diffusivity)
        times = TimeGrid.build(0.0, [0.3], 0.1)
        found = simulate(system, start_of(system), times, stepper)
        return jnp.sum(found.states["u"][-1] ** 2)

    tight = BackwardEuler(Affine(DenseLU(1e-13), DenseLU(1e-13)))
    found, exact = (
        jax.jit(jax.grad(loss), static_argnums=1)(0.1, s) for s in (BackwardEuler(), tight)
    )
    assert float(found) == pytest.approx(float(exact), rel=1e-4)


@pytest.mark.thorough
def test_members_of_a_batch_are_solved_alike():
    diffusivities = jnp.array([1e-5, 1e-2, 10.0])

    def run(diffusivity):
        system = diffusing(ROW, diffusivity)
        times = TimeGrid.build(0.0, [0.3], 0.1)
        return simulate(system, start_of(system), times, BackwardEuler())

    together = jax.jit(jax.vmap(run))(diffusivities)
    assert bool(together.outcome.converged.all())
    for k, diffusivity in enumerate(diffusivities):
        alone = jax.jit(run)(diffusivity)
        np.testing.assert_allclose(together.states["u"][k], alone.states["u"], atol=1e-5)
    # The mild one took what it takes alone.
    assert int(together.outcome.iterations[0].max()) <= 3
