"""The limited scheme: of second order where fields are smooth, and without new extremes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impindiff._errors import InputError
from impindiff.grid import Axis, Grid
from impindiff.implicit import Affine, Newton
from impindiff.integrate import BackwardEuler, ForwardEuler, RungeKutta4
from impindiff.linear import BiCGStab
from impindiff.precondition import Multigrid
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import Field, System
from impindiff.terms import Advection, Diffusion, Dirichlet, FaceVelocity, Inflow, NoFlux, Outflow

NEWTON = Newton(BiCGStab(1e-8), BiCGStab(1e-8), rtol=1e-10)


def last(system: System, initial, until: float, dt: float, stepper, *, jit=jax.jit):
    times = TimeGrid.build(0.0, np.array([until]), dt)
    trajectory = jit(lambda u: simulate(system, {"c": u}, times, stepper))(jnp.asarray(initial))
    trajectory.check(times)
    return np.asarray(trajectory.states["c"][-1])


def uneven(cells: int) -> Axis:
    even = np.linspace(0, 1, cells + 1)
    return Axis.from_faces("x", even - 0.1 * np.sin(2 * np.pi * even) / (2 * np.pi))


@pytest.mark.thorough
@pytest.mark.parametrize("made", [lambda n: Axis("x", 0, 1, n), uneven], ids=["even", "uneven"])
@pytest.mark.parametrize("wind", [1.0, -1.0])
def test_a_slope_is_carried_with_second_order(made, wind: float):
    def profile(at, numeric=np):
        return numeric.tanh(2 * at - 1)

    def error(cells: int) -> float:
        grid = Grid([made(cells)])
        ends = {"x": Inflow(lambda t, x: profile(x - wind * t, jnp))}
        system = System(grid, {"c": Field([Advection(wind, "limited")], ends)})
        x = grid.axes[0].centres
        found = last(system, profile(x), 0.4, 0.4 / cells, RungeKutta4())
        return float((np.abs(found - profile(x - 0.4 * wind)) * grid.axes[0].widths).sum())

    coarse, fine = error(80), error(160)
    assert np.log2(coarse / fine) == pytest.approx(2, abs=0.1)


def entering(s):
    """A smooth profile with extremes, of what is carried in."""
    return jnp.sin(2 * jnp.pi * s)


AXES = {
    "even": lambda n: Axis("x", 0, 1, n),
    "uneven": uneven,
    "graded": lambda n: Axis.graded("x", 0, 1, n, 5.0),
}


@pytest.mark.thorough
@pytest.mark.parametrize(
    "axis, wind, condition",
    [
        ("even", 1.0, Inflow),
        ("uneven", -1.0, Inflow),
        ("graded", 1.0, Dirichlet),
        ("graded", -1.0, Inflow),
    ],
)
def test_what_enters_is_carried_with_second_order(axis: str, wind: float, condition):
    """In the whole domain, the cells beside the ends included: nothing of the start is left."""
    edge = 0.0 if wind > 0 else 1.0
    given = condition(lambda t: entering(edge - wind * t))
    ends = (given, Outflow()) if wind > 0 else (Outflow(), given)

    def error(cells: int) -> float:
        grid = Grid([AXES[axis](cells)])
        system = System(grid, {"c": Field([Advection(wind, "limited")], {"x": ends})})
        x, widths = grid.axes[0].centres, grid.axes[0].widths
        found = last(system, entering(x), 1.1, 0.3 * widths.min(), RungeKutta4())
        return float((np.abs(found - entering(x - 1.1 * wind)) * widths).sum())

    assert np.log2(error(80) / error(160)) >= 1.8


@pytest.mark.thorough
@pytest.mark.parametrize("end", ["dirichlet", "inflow"])
def test_ends_keep_second_order_where_something_diffuses_too(end: str):
    """The value at an inflow's face is then between what enters and what the cell has."""
    diffusivity, k = 0.01, 2 * np.pi

    def exact(x, t):
        return jnp.exp(-diffusivity * k**2 * t) * jnp.sin(k * (x - t) + 0.4)

    def slope(x, t):
        return k * jnp.exp(-diffusivity * k**2 * t) * jnp.cos(k * (x - t) + 0.4)

    enters = {
        "dirichlet": Dirichlet(lambda t: exact(0.0, t)),
        "inflow": Inflow(lambda t: exact(0.0, t) - diffusivity * slope(0.0, t)),
    }[end]
    ends = {"x": (enters, Dirichlet(lambda t: exact(1.0, t)))}

    def error(cells: int) -> float:
        grid = Grid([Axis("x", 0, 1, cells)])
        terms = [Advection(1.0, "limited"), Diffusion(diffusivity)]
        x = grid.axes[0].centres
        start = exact(jnp.asarray(x), 0.0)
        dt = min(0.3 / cells, 0.2 / cells**2 / diffusivity)
        found = last(System(grid, {"c": Field(terms, ends)}), start, 0.5, dt, RungeKutta4())
        return float(np.abs(found - exact(x, 0.5)).mean())

    assert np.log2(error(40) / error(80)) >= 1.8


@pytest.mark.thorough
def test_what_enters_a_plane_is_carried_with_second_order():
    """Across both axes at once, one of them stretched, in through two ends and out through two."""

    def exact(x, y, t):
        return jnp.sin(3 * (x - t)) * jnp.cos(np.pi * (y - 0.5 * t))

    def at(**edge):
        if "x" in edge:
            return Inflow(lambda t, y: exact(edge["x"], y, t))
        return Inflow(lambda t, x: exact(x, edge["y"], t))

    ends = {"x": (at(x=0.0), Outflow()), "y": (at(y=0.0), Outflow())}

    def error(cells: int) -> float:
        grid = Grid([Axis.graded("x", 0, 1, cells, 2.0), Axis("y", 0, 1, cells)])
        wind = np.array([1.0, 0.5])
        system = System(grid, {"c": Field([Advection(wind, "limited")], ends)})
        x, y = grid.centres()
        found = last(system, exact(x, y, 0.0), 0.6, 0.2 / cells, RungeKutta4())
        wrong = np.abs(found - exact(x, y, 0.6)) * grid.cell_volumes()
        return float(wrong.sum())

    assert np.log2(error(32) / error(64)) >= 1.8


@pytest.mark.parametrize("axis, condition", [("even", Inflow), ("graded", Dirichlet)])
def test_a_square_wave_enters_without_new_extremes(axis, condition):
    """Nor does the total variation grow beyond that of what has entered."""
    square = condition(lambda t: jnp.where((t > 0.1) & (t < 0.35), 1.0, 0.0))
    grid = Grid([AXES[axis](60)])
    ends = {"x": (square, Outflow())}
    system = System(grid, {"c": Field([Advection(1.0, "limited")], ends)})
    dt = 0.4 * grid.axes[0].widths.min()
    for until in (0.25, 0.6):
        found = last(system, np.zeros(60), until, dt, ForwardEuler())
        assert found.min() > -1e-13 and found.max() < 1 + 1e-13
        assert np.abs(np.diff(found)).sum() < (1 if until < 0.35 else 2) + 1e-12
        assert found.max() > 0.9


@pytest.mark.thorough
def test_a_wall_that_a_flow_leaves_says_nothing_of_the_field():
    """Whether the velocity at it is round-off of one sign or the other changes nothing."""
    grid = Grid([Axis("x", 0, 1, 8)])
    field = {"c": jnp.linspace(2.0, 3.0, 8)}

    def rate(at_wall: float):
        velocity = FaceVelocity(jnp.linspace(0.0, 1.0, 9).at[0].set(at_wall))
        ends = {"x": (NoFlux(), Outflow())}
        system = System(grid, {"c": Field([Advection(velocity, "limited")], ends)})
        return system.prepare(jnp.dtype("float64")).at(jnp.zeros(()))(field)["c"]

    np.testing.assert_allclose(rate(1e-17), rate(-1e-17), rtol=0, atol=1e-13)


def turning(grid: Grid) -> FaceVelocity:
    """One turn about the middle in a unit of time, by differences of a stream function."""
    x, y = (axis.faces for axis in grid.axes)
    stream = -np.pi * ((x[:, None] - 0.5) ** 2 + (y[None] - 0.5) ** 2)
    dx, dy = np.diff(x)[:, None], np.diff(y)[None]
    return FaceVelocity(
        jnp.asarray(np.diff(stream, axis=1) / dy), jnp.asarray(-np.diff(stream, axis=0) / dx)
    )


def test_a_cone_goes_round():
    """Molenkamp's test: the limited scheme loses less of it, and adds nothing."""
    grid = Grid.uniform((40, 40), ((0, 1), (0, 1)))
    x, y = grid.centres()
    cone = np.maximum(1 - np.hypot(x - 0.5, y - 0.72) / 0.2, 0)
    ends = {"x": Inflow(0.0), "y": Inflow(0.0)}

    def after_a_turn(scheme):
        system = System(grid, {"c": Field([Advection(turning(grid), scheme)], ends)})
        return last(system, cone, 1.0, 1 / 800, ForwardEuler())

    upwind, limited = after_a_turn("upwind"), after_a_turn("limited")
    assert limited.max() > 2 * upwind.max()
    assert np.abs(limited - cone).sum() < 0.5 * np.abs(upwind - cone).sum()
    for found in (upwind, limited):
        assert found.min() > -1e-12 and found.max() < 1 + 1e-12
    assert limited.sum() == pytest.approx(cone.sum(), rel=1e-3)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "stepper, courant, slack",
    [(ForwardEuler(), 0.4, 1e-13), (BackwardEuler(NEWTON, Multigrid()), 3.0, 1e-7)],
    ids=["explicit", "implicit"],
)
def test_a_jump_stays_between_its_sides(stepper, courant: float, slack: float):
    """On cells whose widths differ from one to the next."""
    random = np.random.default_rng(0)
    widths = random.uniform(0.4, 1.0, 40)
    grid = Grid([Axis.from_faces("x", np.concatenate([[0], widths.cumsum() / widths.sum()]))])
    step = np.where(grid.axes[0].centres < 0.3, 1.0, 0.0)
    system = System(grid, {"c": Field([Advection(1.0, "limited")], {"x": Inflow(1.0)})})
    dt = courant * float(grid.axes[0].widths.min())
    found = last(system, step, 12 * dt, dt, stepper)
    assert found.min() > -slack and found.max() < 1 + slack
    assert float(np.abs(found - step).max()) > 0.5


@pytest.mark.thorough
def test_a_uniform_field_stays_uniform():
    """Velocities from a stream function leave it alone to round-off, within walls and around."""
    solid = np.zeros((12, 9), bool)
    grid = Grid([Axis.graded("x", 0, 1, 12, 3.0), Axis("y", 0, 1, 9)], solid=solid)
    ends = {"x": Inflow(2.0), "y": Inflow(2.0)}
    system = System(grid, {"c": Field([Advection(turning(grid), "limited")], ends)})
    rate = system.prepare(jnp.dtype("float64")).at(jnp.zeros(()))({"c": jnp.full((12, 9), 2.0)})
    np.testing.assert_allclose(rate["c"], 0, atol=1e-12)


def test_it_is_not_affine_and_says_so():
    grid = Grid([Axis("x", 0, 1, 8)])
    system = System(grid, {"c": Field([Advection(1.0, "limited")], {"x": Inflow(1.0)})})
    assert not system.prepare(jnp.dtype("float64")).is_affine
    with pytest.raises(InputError, match="not affine"):
        last(system, np.zeros(8), 0.1, 0.1, BackwardEuler(Affine()), jit=lambda f: f)


@pytest.mark.thorough
@pytest.mark.parametrize("wind", [1.0, -1.0])
def test_slopes_have_a_derivative_in_single_precision_far_from_a_front(wind: float):
    """Squares of what is left there, 1e-24 of the top, are zero; the derivative is that of 1."""
    grid = Grid.uniform((8,), ((0, 1),), periodic=(True,))
    tail = jnp.asarray(10.0 ** -np.arange(24.0, 32.0), jnp.float32)
    term = Advection(jnp.array([wind], jnp.float32), "limited")

    def slope(scale: float):
        at = jnp.asarray(tail * scale, jnp.float32)
        return jax.jacobian(lambda u: term.corrected_rate(grid, u))(at)

    np.testing.assert_allclose(slope(1.0), slope(1e24), rtol=1e-4, atol=1e-4)
