r"""Advection that is not conservative, $-\mathbf v\cdot\nabla u$: what stays, order, ends."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
from gradients import taylor_rates
from smooth import box, wave, winds

from impindiff._errors import InputError
from impindiff.grid import Axis, Grid
from impindiff.implicit import Affine, Newton
from impindiff.integrate import CrankNicolson
from impindiff.linear import BiCGStab
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import Field, FluxOf, System
from impindiff.terms import (
    Advection,
    Diffusion,
    Dirichlet,
    FaceVelocity,
    Inflow,
    Neumann,
    NoFlux,
    Outflow,
    Robin,
)

SCHEMES: tuple[Any, ...] = ("upwind", "central", "limited")
FORMS: tuple[Any, ...] = ("conservative", "advective")
DOUBLE = jnp.dtype("float64")


def stretched(name: str, lower: float, upper: float, cells: int) -> Axis:
    even = np.linspace(0, 1, cells + 1)
    place = even - 0.35 * np.sin(np.pi * even) ** 2 / np.pi
    return Axis.from_faces(name, lower + (upper - lower) * place)


GRIDS = {
    "ring": Grid.uniform((9,), ((0, 1),), periodic=True),
    "line": Grid([stretched("x", 0, 1, 9)]),
    "plane": Grid([stretched("x", 0, 1, 7), Axis("y", 0, 1, 6, periodic=True)]),
    "obstacle": Grid.uniform(
        (8, 7), ((0, 1), (0, 1)), solid=lambda x, y: (abs(x - 0.5) < 0.2) & (y < 0.4)
    ),
    "disc": Grid([stretched("r", 0, 1, 6), Axis("z", 0, 1, 5)], "cylindrical"),
    "box": Grid.uniform((4, 3, 5), ((0, 1), (0, 1), (0, 1))),
}


_QUICK = {("line", True), ("plane", False), ("obstacle", False), ("disc", True)}


def rate(system: System, state: dict[str, Any]) -> dict[str, np.ndarray]:
    tendency = system.prepare(DOUBLE).at(jnp.zeros(()))
    return {name: np.asarray(each) for name, each in jax.jit(lambda s: tendency(s))(state).items()}


def ends_of(grid: Grid, *conditions: Any) -> dict[str, Any]:
    """The conditions in turn, one for each end."""
    turn = list(conditions) * 6
    needed = {
        axis.name: [turn.pop() for side in (0, 1) if grid.has_end(k, side)]
        for k, axis in enumerate(grid.axes)
    }
    return {name: pair for name, pair in needed.items() if pair}


def random_velocity(grid: Grid, at_faces: bool) -> Any:
    random = np.random.default_rng(0)
    if not at_faces:
        return jnp.asarray(random.normal(size=(grid.num_axes, *grid.shape)))
    faces = []
    for k, axis in enumerate(grid.axes):
        shape = np.array(grid.shape) + (np.arange(grid.num_axes) == k) * (not axis.periodic)
        faces.append(jnp.asarray(random.normal(size=shape)))
    return FaceVelocity(*faces)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name, at_faces",
    [
        pytest.param(name, at_faces, marks=[pytest.mark.slow] * ((name, at_faces) not in _QUICK))
        for name in GRIDS
        for at_faces in (False, True)
    ],
)
def test_a_uniform_field_stays_uniform(name: str, at_faces: bool):
    """Whatever velocity, scheme and condition: to round-off of what is carried.

    All in one system: a field for each scheme and pair of conditions that it fulfils, and some of
    the conservative form, which do not stay.
    """
    grid, velocity = GRIDS[name], random_velocity(GRIDS[name], at_faces)
    pairs = [
        (Dirichlet(1.7), Inflow(1.7)),
        (Neumann(0.0), Outflow()),
        (Robin(0.4, 1.7), NoFlux()),
    ]
    fields = {}
    kinds: list[tuple[Any, Any]] = [("advective", scheme) for scheme in SCHEMES]
    for form, scheme in [("conservative", "central"), *kinds]:
        for number, pair in enumerate(pairs):
            field = f"{form}, {scheme}, {number}"
            terms = [Advection(velocity, scheme, form), Diffusion(0.01)]
            fields[field] = Field(terms, ends_of(grid, *pair))
    system = System(grid, fields)
    uniform = dict.fromkeys(fields, jnp.full(grid.shape, 1.7))
    for field, change in rate(system, uniform).items():
        if field.startswith("advective"):
            assert np.abs(change).max() < 1e-12, field
        else:
            assert np.abs(change).max() > 1, field


@pytest.mark.many
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("grid", [box(7), box(5, 4), box(3, 2, 4)], ids=lambda g: str(g.shape))
def test_it_is_the_flux_less_what_a_uniform_field_gains(grid: Grid, scheme: Any):
    velocity, field = winds(grid), wave(grid, 0.4)
    both = {form: System(grid, {"u": [Advection(velocity, scheme, form)]}) for form in FORMS}
    flux, advective = (rate(both[form], {"u": field})["u"] for form in both)
    gained = rate(both["conservative"], {"u": jnp.ones(grid.shape)})["u"]
    np.testing.assert_allclose(advective, flux - field * gained, rtol=1e-11, atol=1e-11)
    assert np.abs(advective - flux).max() > 0.1


@pytest.mark.thorough
@pytest.mark.parametrize("scheme", SCHEMES)
def test_where_the_flow_has_no_divergence_the_forms_agree(scheme: Any):
    """At faces, by differences of a stream function; all ends of the flow's own kind."""
    grid = Grid.uniform((9, 7), ((0, 1), (0, 1)))
    psi = np.random.default_rng(0).normal(size=(10, 8))
    velocity = FaceVelocity(
        jnp.asarray(np.diff(psi, axis=1) / grid.cell_widths[1]),
        jnp.asarray(-np.diff(psi, axis=0) / grid.cell_widths[0]),
    )
    ends = {"x": (Dirichlet(0.3), Inflow(2.0)), "y": (Robin(0.5, 1.0), Outflow())}
    field = jnp.asarray(np.random.default_rng(1).uniform(size=grid.shape))
    flux, advective = (
        rate(
            System(grid, {"u": Field([Advection(velocity, scheme, form), Diffusion(0.1)], ends)}), s
        )["u"]
        for form, s in ((form, {"u": field}) for form in FORMS)
    )
    np.testing.assert_allclose(advective, flux, rtol=1e-11, atol=1e-10)
    assert np.abs(flux).max() > 10


@pytest.mark.thorough
@pytest.mark.parametrize("speed", [2.0, -2.0])
def test_what_enters_is_what_differs_from_the_cell(speed: float):
    """Formulas written out: the outermost cell gains what the flow brings beyond its own value."""
    grid = Grid.uniform((4,), ((0.0, 1.0),))
    field = jnp.array([0.5, 0.9, 1.3, 2.0])

    def first(condition: Any, scheme: Any) -> float:
        system = System(
            grid,
            {
                "u": Field(
                    [Advection(FaceVelocity(speed), scheme, "advective")],
                    {"x": (condition, Outflow())},
                )
            },
        )
        return float(rate(system, {"u": field})["u"][0])

    # Through the upper face of the cell: half the difference, or all of it where it flows down.
    central, upwind = -4 * speed * 0.2, -4 * min(speed, 0) * 0.4
    enters = max(speed, 0)
    assert first(Dirichlet(3.0), "central") == pytest.approx(central + 4 * speed * 2.5)
    assert first(Dirichlet(3.0), "upwind") == pytest.approx(upwind + 4 * enters * 2.5)
    assert first(Inflow(3.0), "upwind") == pytest.approx(upwind + 4 * enters * 2.5)
    assert first(Inflow(3.0), "central") == pytest.approx(central + 4 * enters * 2.5)
    assert first(NoFlux(), "upwind") == first(Outflow(), "upwind") == pytest.approx(upwind)
    # The face is half a cell from the centre: the flow carries its value past.
    expected = upwind + 4 * enters * 6.0 / 8
    assert first(Neumann(6.0), "upwind") == pytest.approx(expected)


@pytest.mark.thorough
@pytest.mark.parametrize("scheme, order", [("upwind", 1), ("central", 2), ("limited", 2)])
@pytest.mark.parametrize("uneven", [False, True], ids=["even", "stretched"])
def test_it_reaches_its_order(scheme: Any, order: int, uneven: bool):
    """In the mean over inner cells, with a flow that diverges and a field without extremes."""

    def error(cells: int) -> float:
        make = stretched if uneven else Axis
        grid = Grid([make("x", 0.0, 1.0, cells), make("y", 0.0, 1.0, cells)])
        x, y = map(jnp.asarray, grid.centres())
        field = jnp.sin(1.1 * x + 0.2) + jnp.sin(0.9 * y - 0.2) + 2
        u_x, u_y = 1.1 * jnp.cos(1.1 * x + 0.2), 0.9 * jnp.cos(0.9 * y - 0.2)
        exact = -((1 + x) * u_x + (1.5 + jnp.sin(y)) * u_y)
        carry = Advection(lambda x, y: (1 + x, 1.5 + jnp.sin(y)), scheme, "advective")
        system = System(grid, {"u": Field([carry], dict.fromkeys("xy", Outflow()))})
        off = np.abs(rate(system, {"u": field})["u"] - np.asarray(exact))
        inner = (abs(x - 0.5) < 0.25) & (abs(y - 0.5) < 0.25)
        return float(off[inner].mean())

    coarse, fine = map(error, (128, 256))
    assert np.log2(coarse / fine) == pytest.approx(order, abs=0.1)


def fletcher(x, y, t, reynolds: float = 20.0):
    """The components of Fletcher's solution of the two-dimensional equations."""
    front = 0.25 / (1 + jnp.exp((-4 * x + 4 * y - t) * reynolds / 32))
    return 0.75 - front, 0.75 + front


def test_fletchers_solution_is_one():
    """By substitution, derivatives by differentiation: signs as in the tests that follow."""

    def left_over(x, y, t):
        found = fletcher(x, y, t)
        total = []
        for component in (lambda *a: fletcher(*a)[0], lambda *a: fletcher(*a)[1]):
            u_t, u_x, u_y = (jax.grad(component, n)(x, y, t) for n in (2, 0, 1))
            u_xx, u_yy = (jax.grad(jax.grad(component, n), n)(x, y, t) for n in (0, 1))
            total.append(u_t + found[0] * u_x + found[1] * u_y - (u_xx + u_yy) / 20.0)
            assert abs(u_t) > 1e-3
        return total

    np.testing.assert_allclose(left_over(0.3, 0.45, 0.2), 0, atol=1e-14)


def fletchers_system(cells: int) -> System:
    """The equations of both components, their values held at all ends in time."""

    def held(k: int) -> dict[str, Any]:
        return dict.fromkeys("xy", Dirichlet(lambda t, x, y: fletcher(x, y, t)[k]))

    grid = Grid.uniform((cells, cells), ((0, 1), (0, 1)))
    terms = [Advection(lambda u, v: (u, v), "central", "advective"), Diffusion(1 / 20.0)]
    return System(grid, {"u": Field(terms, held(0)), "v": Field(terms, held(1))})


def fletchers_state(system: System, time: float) -> dict[str, jax.Array]:
    assert system.grid is not None
    x, y = map(jnp.asarray, system.grid.centres())
    return dict(zip("uv", fletcher(x, y, time), strict=True))


@pytest.mark.thorough
def test_the_two_components_of_burgers_change_as_fletchers_solution_does():
    """Of second order, in inner cells."""

    def error(cells: int) -> float:
        system = fletchers_system(cells)
        state, change = jax.jvp(lambda t: fletchers_state(system, t), (0.5,), (1.0,))
        found = rate(system, state)
        inner = (slice(2, -2), slice(2, -2))
        assert min(jnp.abs(each).max() for each in change.values()) > 0.03
        return max(float(np.abs(found[f] - change[f])[inner].max()) for f in "uv")

    coarse, fine = map(error, (16, 32))
    assert np.log2(coarse / fine) == pytest.approx(2, abs=0.2)


@pytest.mark.slow
def test_the_two_components_of_burgers_follow_fletchers_solution():
    """In time, beside ends that follow it."""

    def error(cells: int) -> float:
        system = fletchers_system(cells)
        start, truth = fletchers_state(system, 0.0), fletchers_state(system, 1.0)
        times = TimeGrid.build(0.0, [1.0], 1 / (2 * cells))
        stepper = CrankNicolson(Newton(BiCGStab(1e-10), rtol=1e-10))
        found = jax.jit(lambda s: simulate(system, s, times, stepper))(start)
        found.check(times)
        return max(float(jnp.abs(found.states[f][-1] - truth[f]).max()) for f in "uv")

    coarse, fine = map(error, (8, 16))
    assert fine < 1e-3
    assert np.log2(coarse / fine) == pytest.approx(2, abs=0.25)


@pytest.mark.thorough
def test_the_gradient_leaves_a_second_order_remainder():
    """For the velocity, whose differences are all that the form sees, and the diffusivity."""
    grid = Grid.uniform((6, 5), ((0, 1), (0, 1)), periodic=(False, True))
    times = TimeGrid.build(0.0, [0.1], 0.025)

    def loss(parts):
        system = System(
            grid,
            {
                "u": Field(
                    [Advection(parts["v"], "central", "advective"), Diffusion(parts["k"])],
                    {"x": (Dirichlet(parts["end"][0]), Outflow())},
                )
            },
        )
        found = simulate(system, {"u": parts["u"]}, times, CrankNicolson(Affine(BiCGStab(1e-12))))
        return (found.states["u"][-1] ** 2).sum()

    parts = {
        "v": winds(box(6, 5)),
        "k": 0.05 * wave(box(6, 5)),
        "u": wave(box(6, 5), 1.0),
        "end": jnp.array([0.5]),
    }
    for name, found in taylor_rates(loss, parts, step=2e-3).items():
        assert found == pytest.approx(2, abs=0.1), name


def test_a_form_that_does_not_exist_is_refused():
    wrong: Any = "skew"
    with runtime_types.without(), pytest.raises(InputError, match="'skew' is not one of conserv"):
        Advection(0.5, "central", wrong)


def test_what_is_not_conserved_has_no_flux_to_carry_others():
    grid = box(6)
    equations = {
        "p": [Advection(0.5, "central", "advective")],
        "c": [Advection(FluxOf("p"))],
    }
    with pytest.raises(InputError, match="the flux of 'p', which has none: .* not conservative"):
        System(grid, equations)
