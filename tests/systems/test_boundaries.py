"""Boundary conditions in a system: where they belong, what they keep, and what can be learned."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
import scipy.special
from gradients import taylor_rates

from impindiff._errors import InputError
from impindiff.coefficients import evaluate_coefficients
from impindiff.grid import Axis, Grid
from impindiff.implicit import Affine
from impindiff.integrate import CrankNicolson, ForwardEuler
from impindiff.latent import Parameter, SineField, latents_of, learned
from impindiff.linear import BiCGStab
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import Field, System, advection_diffusion
from impindiff.terms import (
    AbstractBoundary,
    Advection,
    Diffusion,
    Dirichlet,
    FaceVelocity,
    Inflow,
    Neumann,
    NoFlux,
    Outflow,
    Robin,
    Source,
)

DOUBLE = jnp.dtype("float64")
HALL = Grid.uniform((5, 4), ((0, 1), (0, 1)), periodic=(False, True))
CLOSED = Grid.uniform((5, 4), ((0, 1), (0, 1)))
SPREAD = [Diffusion(0.1)]


@pytest.mark.parametrize(
    "grid, terms, boundaries, said",
    [
        (HALL, SPREAD, None, "'c' has no boundary condition at the lower and the upper end of axi"),
        (CLOSED, SPREAD, {"x": NoFlux()}, r"end of axis 'y'.*Field\(\[...\], {'y': \("),
        (HALL, SPREAD, {"x": (None, NoFlux())}, "at the lower end of axis 'x'"),
        (HALL, SPREAD, {"x": (NoFlux(),)}, "at the upper end of axis 'x'"),
        (HALL, SPREAD, {"x": (NoFlux(),) * 3}, "has 3 .* on axis 'x', which has 2 end"),
        (HALL, SPREAD, {"x": NoFlux(), "y": NoFlux()}, "'y', which is periodic"),
        (HALL, SPREAD, {"x": NoFlux(), "z": NoFlux()}, "name the axis 'z'.*'x', 'y'"),
        (HALL, SPREAD, {"x": 0.5}, "has 0.5 for a boundary condition on axis 'x'"),
        (HALL, [Source(1.0)], {"x": NoFlux()}, "no term that moves it"),
        (HALL, SPREAD, {"x": (NoFlux(), Inflow(1.0))}, "Inflow at the upper end of axis 'x', but"),
        (None, [Source(1.0)], {"x": NoFlux()}, "'c' has boundaries, but a system without a grid"),
    ],
)
def test_conditions_that_are_missing_or_superfluous(grid, terms, boundaries: Any, said: str):
    with runtime_types.without(), pytest.raises(InputError, match=said):
        System(grid, {"c": Field(terms, boundaries)})


def test_an_axis_of_symmetry_needs_no_condition():
    disc = Grid([Axis("r", 0, 1, 5)], "cylindrical")
    one = System(disc, {"c": Field(SPREAD, {"r": Dirichlet(1.0)})})
    assert one.boundaries["c"] == ((None, Dirichlet(1.0)),)
    with pytest.raises(InputError, match="has 1 end.*none at the axis of symmetry"):
        System(disc, {"c": Field(SPREAD, {"r": (NoFlux(), NoFlux())})})


def test_what_only_reacts_needs_no_condition():
    dynamics = System(CLOSED, {"c": [Source(2.0)]}).prepare(DOUBLE)
    rate = dynamics.at(jnp.zeros(()))({"c": jnp.ones(CLOSED.shape)})
    np.testing.assert_array_equal(rate["c"], np.full(CLOSED.shape, 2.0))


@pytest.mark.parametrize(
    "value, said",
    [
        (np.ones(3), r"Dirichlet of 'c' at the lower end of axis 'x'.*\(4,\)"),
        (np.ones((1, 4)), r"Dirichlet of 'c' at the lower end of axis 'x'.*\(4,\)"),
        (lambda t: jnp.ones(5), r"<lambda>\(t\) returns an array of shape \(5,\).*\(4,\)"),
    ],
)
def test_a_value_of_another_shape_is_refused(value, said: str):
    ends = {"x": (Dirichlet(value), NoFlux()), "y": NoFlux()}
    system = System(CLOSED, {"c": Field(SPREAD, ends)})
    with pytest.raises(InputError, match=said):
        system.prepare(DOUBLE).at(jnp.zeros(()))


def mass_grids() -> dict[str, Grid]:
    uneven = [Axis.graded("x", 0.5, 2, 6, 4.0), Axis.from_faces("y", [0, 1, 1.5, 3, 3.2])]
    solid = np.zeros((6, 4), bool)
    solid[2:4, 1] = solid[0, 3] = True
    return {
        "even": Grid.uniform((7, 5), ((0, 1), (0, 2))),
        "uneven": Grid(uneven),
        "ring": Grid(uneven, "cylindrical"),
        "obstacles": Grid(uneven, solid=solid),
        "three": Grid([*uneven, Axis("z", 0, 1, 3)]),
    }


@pytest.mark.thorough
@pytest.mark.parametrize("scheme", ["upwind", "central", "limited"])
@pytest.mark.parametrize("name", list(mass_grids()))
def test_what_is_gained_has_come_through_the_ends(name: str, scheme):
    """The total's rate depends on the cells at the ends alone, and as their conditions say."""
    grid = mass_grids()[name]
    random = np.random.default_rng(0)
    sizes = np.array(grid.shape) + np.eye(grid.num_axes, dtype=int)
    velocity = FaceVelocity(*(jnp.asarray(random.normal(size=size)) for size in sizes))
    spread = jnp.asarray(random.uniform(0.1, 1, grid.shape))
    conditions = (Dirichlet(0.7), Robin(0.3, -1.0)), (Neumann(0.4), Outflow()), (Inflow(2.0),) * 2
    boundaries = dict(zip(grid.names, conditions, strict=False))
    terms = [Advection(velocity, scheme), Diffusion(spread), Source(0.9)]
    tendency = System(grid, {"c": Field(terms, boundaries)}).prepare(DOUBLE).at(jnp.zeros(()))
    volumes = grid.cell_volumes()

    @jax.value_and_grad
    def total(field):
        return jnp.vdot(volumes, tendency({"c": field})["c"])

    field = jnp.asarray(random.normal(size=grid.shape))
    gained, by_cell = total(field)
    scale = float(jnp.vdot(volumes, jnp.abs(tendency({"c": field})["c"])))
    free = np.ones(grid.shape, bool) if grid.solid is None else ~grid.solid
    inner = (slice(1, -1),) * grid.num_axes
    np.testing.assert_allclose(by_cell[inner], 0, atol=1e-12 * scale)

    left = 0.9 * (volumes * free).sum()
    evaluated = evaluate_coefficients(Advection(velocity, scheme), grid)
    for axis, pair in enumerate(conditions[: grid.num_axes]):
        for side, condition in enumerate(pair):
            faces = Diffusion(spread).boundary_face(grid, axis, side)
            const, slope = condition.flux(faces + evaluated.boundary_face(grid, axis, side))
            place = (slice(None),) * axis + (slice(-1, None) if side else slice(0, 1),)
            area = (volumes / grid.spread(grid.cell_measures(axis), axis))[place]
            area = area * grid.face_measures(axis)[-side]
            left -= float((area * free[place] * (const + slope * field[place])).sum())
    assert float(gained) == pytest.approx(left, abs=1e-12 * scale)


@pytest.mark.thorough
def test_obstacles_keep_their_values_and_let_nothing_pass():
    solid = np.zeros(CLOSED.shape, bool)
    solid[2] = True  # a wall from end to end
    grid = Grid(CLOSED.axes, solid=solid)
    terms = [Advection(jnp.array([0.4, 0.1]), "central"), Diffusion(0.3), Source(1.0)]
    tendency = (
        System(grid, {"c": Field(terms, {"x": Dirichlet(1.0), "y": Outflow()})})
        .prepare(DOUBLE)
        .at(jnp.zeros(()))
    )
    matrix = jax.jacfwd(lambda u: tendency({"c": u})["c"])(jnp.ones(grid.shape))
    assert not matrix[2].any() and not matrix[..., 2, :].any()
    assert not matrix[:2, :, 3:].any() and not matrix[3:, :, :2].any()
    assert not tendency({"c": jnp.ones(grid.shape)})["c"][2].any()


class Pulse(AbstractBoundary):
    """A condition of a user's own: a value that is let go where the flow leaves."""

    value: Any

    def flux(self, face):
        leaving = face.flux_for((0.0, 1.0))
        held = face.flux_for((self.value, 0.0))
        out = jnp.asarray(face.speed) > 0
        return tuple(jnp.where(out, a, b) for a, b in zip(leaving, held, strict=True))


def test_values_may_depend_on_time_and_place():
    """A condition of one's own, and a formula in it, as if it were written out at each time."""
    terms = [Advection(jnp.array([0.4, 0.1]), "central"), Diffusion(0.3)]
    formula = lambda y, t: jnp.sin(3 * t) + y  # noqa: E731
    system = System(HALL, {"c": Field(terms, {"x": Pulse(formula)})})
    dynamics = system.prepare(DOUBLE)
    assert dynamics.is_affine and not dynamics.is_steady
    field = jnp.asarray(np.random.default_rng(0).normal(size=HALL.shape))
    for time in (0.0, 0.7):
        value = jnp.sin(3 * time) + jnp.asarray(HALL.axes[1].centres)
        fixed = System(HALL, {"c": Field(terms, {"x": (Dirichlet(value), Outflow())})})
        wanted = fixed.prepare(DOUBLE).at(jnp.zeros(()))({"c": field})["c"]
        found = dynamics.at(jnp.asarray(time))({"c": field})["c"]
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    steady = System(HALL, {"c": Field(terms, {"x": Pulse(lambda y: y)})})
    assert steady.prepare(DOUBLE).is_steady


def test_values_at_the_ends_may_be_learned():
    inlet = SineField(1, ("inlet",), width=4, depth=1, key=jax.random.key(0))
    ends = {"x": (Dirichlet(inlet), Robin(Parameter("h", 0.3, (0, 1)), 0.0))}
    system = System(HALL, {"c": Field(SPREAD, ends)})
    assert [latent.names for latent in latents_of(system)] == [("inlet",), ("h",)]
    assert sum(map(bool, jax.tree.leaves(learned(system)))) == len(
        jax.tree.leaves(eqx.filter((inlet, Parameter("h", 0.3, (0, 1))), eqx.is_inexact_array))
    )
    values = system.latents()
    assert set(values) == {"inlet", "h"} and values["inlet"].shape == HALL.shape
    profile = inlet.evaluate(HALL.across(0))
    np.testing.assert_array_equal(values["inlet"], jnp.broadcast_to(profile, HALL.shape))
    assert system.prepare(DOUBLE).is_steady
    with pytest.raises(InputError, match="h stand for more than one"):
        System(HALL, {"c": Field([Diffusion(Parameter("h", 0.3, (0, 1)))], ends)})


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["central", "limited"])
def test_gradients_with_respect_to_conditions_and_coefficients(scheme):
    """On a stretched grid, boundary values and velocities at faces included."""
    grid = Grid([Axis.graded("x", 0, 1, 6, 3.0), Axis.graded("y", 0, 1, 4, 0.5)])
    x, y = grid.centres()
    times = TimeGrid.build(0.0, np.array([0.02]), 0.01)
    linear = BiCGStab(1e-13, max_steps=500)
    stepper = ForwardEuler() if scheme == "limited" else CrankNicolson(Affine(linear, linear))
    random = np.random.default_rng(0)
    point = {
        "inlet": jnp.asarray(random.uniform(1, 2, 4)),
        "transfer": jnp.array(0.8),
        "gradient": jnp.array(0.3),
        "velocity": (
            jnp.asarray(random.uniform(0.5, 1, (7, 4))),
            jnp.asarray(random.uniform(-0.3, 0.3, (6, 5))),
        ),
        # Smooth: where its extrapolation to a face is cut off, it has no derivative.
        "diffusivity": jnp.asarray(0.3 + 0.1 * x * y),
    }

    def loss(point):
        ends = {
            "x": (Dirichlet(point["inlet"]), Robin(point["transfer"], 0.5)),
            "y": (Neumann(point["gradient"]), Outflow()),
        }
        velocity = FaceVelocity(*point["velocity"])
        terms = [Advection(velocity, scheme), Diffusion(point["diffusivity"])]
        system = System(grid, {"c": Field(terms, ends)})
        initial = {"c": jnp.asarray(np.exp(-x) + 0.2 * y)}
        found = simulate(system, initial, times, stepper)
        return jnp.sum(jnp.sin(3 * found.states["c"][-1]))

    rates = taylor_rates(loss, point, step=5e-3)
    assert min(rates.values()) >= 1.9, rates


@pytest.mark.thorough
def test_a_front_moves_into_a_column():
    """The published values of Ogata and Banks (1961) for a held inlet, v = 1 and D = 0.1."""
    grid = Grid([Axis.graded("x", 0, 4, 320, 6.0)])
    boundaries = {"x": (Dirichlet(1.0), Outflow())}
    system = advection_diffusion(grid, 1.0, 0.1, scheme="central", boundaries=boundaries)
    times = TimeGrid.build(0.0, np.array([0.5]), 0.005)
    rollout = jax.jit(lambda u: simulate(system, {"concentration": u}, times, CrankNicolson()))
    found = rollout(jnp.zeros(grid.shape)).states["concentration"][-1]
    x = grid.axes[0].centres
    published = [0.89325437, 0.61616315, 0.28441231, 0.08006675]
    at = np.interp([0.25, 0.5, 0.75, 1.0], x, found)
    np.testing.assert_allclose(at, published, atol=1e-3)
    spread = 2 * np.sqrt(0.1 * 0.5)
    exact = scipy.special.erfc((x - 0.5) / spread) / 2
    exact += np.exp(x / 0.1) * scipy.special.erfc((x + 0.5) / spread) / 2
    assert float(np.abs(found - exact)[(x > 0.05) & (x < 2)].max()) < 1e-3


@pytest.mark.parametrize(
    "boundaries, said",
    [
        (NoFlux(), r"boundaries of 'c' are given by axis, .*found NoFlux\(\)"),
        ({"x": (Dirichlet("k"), NoFlux())}, "conditions of 'c' has the text 'k'"),
    ],
)
def test_conditions_of_another_form_are_refused(boundaries: Any, said: str):
    grid = Grid([Axis("x", 0, 1, 4)])
    with runtime_types.without(), pytest.raises(InputError, match=said):
        System(grid, {"c": Field([Diffusion(0.1)], boundaries)})


@pytest.mark.parametrize("value", [np.nan, lambda t: jnp.log(t - 1), lambda c: jnp.sqrt(c - 2)])
def test_a_condition_that_is_not_finite_is_named_before_anything_is_solved(value):
    grid = Grid([Axis("x", 0, 1, 4)])
    ends = {"x": (NoFlux(), Dirichlet(value))}
    system = System(grid, {"c": Field([Diffusion(0.1)], ends)})
    with pytest.raises(InputError, match="Dirichlet of 'c' at the upper end of axis 'x' .* nan"):
        system.check({"c": jnp.ones(4)})
