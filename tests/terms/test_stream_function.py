"""A stream function: its velocity has no divergence, and none enters walls and obstacles."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
from gradients import taylor_rates

import impindiff as ipd
from impindiff import Axis, Grid, InputError
from impindiff.coefficients import evaluate_coefficients
from impindiff.latents import StreamFunction

DOUBLE = jnp.dtype("float64")
STRETCHED = Grid([Axis.graded("x", 0.0, 2.0, 7, 3.0), Axis.from_faces("y", [0, 1, 1.5, 3, 3.2])])
CHANNEL = Grid.uniform((8, 6), ((0, 2), (0, 1)), periodic=(True, False))
TORUS = Grid.uniform((6, 5), ((0, 1), (0, 2)), periodic=True)
BLOCK = np.zeros((7, 4), bool)
BLOCK[2:4, 1] = BLOCK[4, 2] = BLOCK[6, 3] = True
ISLAND = np.zeros(TORUS.shape, bool)
ISLAND[0, :2] = ISLAND[3:, 2] = True
BLOCKED, ARCHIPELAGO = Grid(STRETCHED.axes, solid=BLOCK), Grid(TORUS.axes, solid=ISLAND)


def rough(grid: Grid) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=grid.shape))


def outflow(faces, grid: Grid) -> jax.Array:
    """What leaves each cell per area."""
    total = jnp.zeros(grid.shape)
    for axis, (velocity, row) in enumerate(zip(faces, grid.axes, strict=True)):
        if row.periodic:
            velocity = jnp.concatenate([velocity, jnp.take(velocity, np.array([0]), axis)], axis)
        total += jnp.diff(velocity, axis=axis) / grid.spread(row.widths, axis)
    return total


def shut(grid: Grid, axis: int, walls: set[tuple[int, int]]) -> np.ndarray:
    """Whether nothing may pass each face across an axis."""
    solid = np.zeros(grid.shape, bool) if grid.solid is None else grid.solid
    solid, ring = np.moveaxis(solid, axis, 0), grid.axes[axis].periodic
    below = solid[-1:] if ring else np.zeros_like(solid[:1])
    closed = np.concatenate([below, solid]) | np.concatenate([solid, solid[:1] if ring else below])
    for side in (0, 1):
        closed[-side] |= (axis, side) in walls
    return np.moveaxis(closed[:-1] if ring else closed, 0, axis)


@pytest.mark.many
@pytest.mark.parametrize(
    "grid, walls, where, mean_flow",
    [
        (STRETCHED, (), set(), (0.0, 0.0)),
        (STRETCHED, ["x", ("y", "upper")], {(0, 0), (0, 1), (1, 1)}, (0.0, 0.0)),
        (BLOCKED, ("x", "lower"), {(0, 0)}, (0.0, 0.8)),
        (CHANNEL, "y", {(1, 0), (1, 1)}, (1.5, 0)),
        (TORUS, (), set(), (1.5, -0.4)),
        (ARCHIPELAGO, (), set(), (0.0, 0.0)),
        (Grid.uniform((5, 1), ((0, 1), (0, 1))), "x", {(0, 0), (0, 1)}, (0.0, 0.0)),
    ],
    ids=["open", "walls", "obstacles", "channel", "torus", "islands", "one row"],
)
def test_what_is_even_stays_even(grid: Grid, walls, where, mean_flow):
    """In every cell to round-off, whatever psi is; nothing at all passes what is closed."""
    velocity = StreamFunction(rough(grid), walls=walls, mean_flow=mean_flow)
    ends = {
        name: [ipd.NoFlux() if (k, side) in where else ipd.Outflow() for side in (0, 1)]
        for k, name in enumerate(grid.names)
        if not grid.axes[k].periodic
    }
    system = ipd.System(grid, {"c": ipd.Field([ipd.Advection(velocity)], ends)})

    @eqx.filter_jit
    def found():
        rate = system.prepare(DOUBLE).at(jnp.zeros(()))({"c": jnp.ones(grid.shape)})["c"]
        faces = velocity.evaluate(grid)
        return faces, outflow(faces, grid), rate

    faces, left, rate = found()
    size = max(float(abs(np.asarray(v)).max()) for v in faces)
    assert size > 0.1
    np.testing.assert_allclose(left, 0, atol=1e-13 * size)
    np.testing.assert_allclose(rate, 0, atol=1e-13 * size)
    for axis in (0, 1):
        assert not np.asarray(faces[axis])[shut(grid, axis, where)].any()


def test_a_bilinear_function_gives_its_derivatives():
    """On stretched cells, too, and up to the ends."""
    x, y = STRETCHED.centres()
    along_x, along_y = StreamFunction(jnp.asarray(2 + x * y - 3 * x)).evaluate(STRETCHED)
    np.testing.assert_allclose(along_x, STRETCHED.face_centres(0)[0], atol=1e-13)
    np.testing.assert_allclose(along_y, 3 - STRETCHED.face_centres(1)[1], atol=1e-13)


def test_a_smooth_function_gives_its_derivatives_to_second_order():
    def error(cells: int) -> float:
        grid = Grid.uniform((cells, cells), ((0, 1), (0, 2)), periodic=True)
        (x, y), turn = grid.centres(), 2 * np.pi
        found, _ = StreamFunction(jnp.asarray(np.sin(turn * x) * np.sin(np.pi * y))).evaluate(grid)
        x, y = (at[:-1] for at in grid.face_centres(0))
        return abs(np.asarray(found) - np.pi * np.sin(turn * x) * np.cos(np.pi * y)).max()

    assert np.log2(error(16) / error(32)) == pytest.approx(2, abs=0.1)


@pytest.mark.thorough
def test_a_mean_flow_passes_every_section():
    """Between walls, around a block; around a ring psi itself carries nothing on the whole."""
    solid = np.zeros(CHANNEL.shape, bool)
    solid[3:5, 1:3] = True
    grid = Grid(CHANNEL.axes, solid=solid)
    along_x, _ = StreamFunction(0.0, walls="y", mean_flow=(1.5, 0.0)).evaluate(grid)
    np.testing.assert_allclose(along_x.mean(1), 1.5)
    found = StreamFunction(rough(TORUS), mean_flow=(1.5, -0.4)).evaluate(TORUS)
    np.testing.assert_allclose(found[0].mean(1), 1.5)
    np.testing.assert_allclose(found[1].mean(0), -0.4)


def test_psi_is_any_coefficient():
    wave = lambda x, y: jnp.sin(x) * jnp.cosh(y)  # noqa: E731
    x, y = STRETCHED.centres()
    state = {"c": rough(STRETCHED) ** 2}
    ends = dict.fromkeys("xy", ipd.Outflow())

    @eqx.filter_jit
    def rate(psi: Any, mean: Any = 0.0) -> jax.Array:
        velocity = StreamFunction(psi, mean_flow=(mean, 0.0))
        system = ipd.System(STRETCHED, {"c": ipd.Field([ipd.Advection(velocity)], ends)})
        return system.prepare(DOUBLE).at(jnp.zeros(()))(state)["c"]

    by_array = rate(wave(jnp.asarray(x), jnp.asarray(y)))
    # Compiled otherwise, products and sums may be rounded otherwise.
    same = partial(np.testing.assert_allclose, rtol=1e-13)
    same(rate(wave), by_array)
    same(rate(lambda t, x, y: wave(x, y) + 0 * t), by_array)
    # As in flows whose stream function is itself a field.
    same(rate(lambda c: c), rate(state["c"]))
    assert jnp.abs(by_array).max() > 0.1
    np.testing.assert_allclose(rate(0.0, lambda t: 2 + t), rate(2 * jnp.asarray(y)), atol=1e-12)


def test_a_learned_one_has_a_true_gradient():
    learned = StreamFunction(
        ipd.latents.CellField("psi", rough(BLOCKED)),
        walls=("x", "lower"),
        mean_flow=(0.0, ipd.Parameter("mean", 0.3, (0.0, 1.0))),
    )
    ends = {"x": (ipd.NoFlux(), ipd.Outflow()), "y": ipd.Outflow()}
    system = ipd.System(BLOCKED, {"c": ipd.Field([ipd.Advection(learned)], ends)})
    assert set(system.latents()) == {"psi", "mean"}
    arrays, rest = eqx.partition(learned, eqx.is_inexact_array)
    parts, shape = jax.tree.flatten(jax.tree.map(lambda leaf: leaf.astype(float), arrays))
    assert [part.shape for part in parts] == [(7, 4), ()]

    def loss(parts: dict[str, jax.Array]):
        whole = eqx.combine(jax.tree.unflatten(shape, [parts["psi"], parts["mean"]]), rest)
        return sum(jnp.sum(v**2) for v in evaluate_coefficients(whole, BLOCKED))

    rates = taylor_rates(loss, dict(zip(("psi", "mean"), parts, strict=True)))
    assert rates == pytest.approx({"psi": 2, "mean": 2}, abs=0.1)


@pytest.mark.parametrize(
    "grid, options, said",
    [
        (Grid.uniform((4,), ((0, 1),)), {}, "plane velocities.*the grid is cartesian, of 1 axes"),
        (Grid.uniform((2, 2, 2), ((0, 1),) * 3), {}, "of 3 axes.*DivergenceFree"),
        (Grid(STRETCHED.axes, "cylindrical"), {}, "the grid is cylindrical, of 2 axes"),
        (STRETCHED, {"walls": "z"}, r"names 'z': name an axis of the grid \('x', 'y'\)"),
        (STRETCHED, {"walls": ("y", "top")}, r"names 'top': name an axis"),
        (STRETCHED, {"walls": [("y", "top")]}, r"names \('y', 'top'\).*\('y', 'lower'\)"),
        (CHANNEL, {"walls": "x"}, "names 'x', but the axis 'x' is periodic"),
        (CHANNEL, {"walls": "y", "mean_flow": (0.0, 1.0)}, "mean flow along 'y', into the walls"),
        (ARCHIPELAGO, {"mean_flow": (0.0, 1.0)}, "upper end of the periodic axis 'x'"),
        (STRETCHED, {"mean_flow": (1.0,)}, r"mean flow of a StreamFunction is \(1.0,\)"),
        (STRETCHED, {"mean_flow": (None, 0.0)}, "mean flow of a StreamFunction is None"),
        (STRETCHED, {"psi": None}, "the stream function is None: it must be"),
        (STRETCHED, {"psi": "y"}, "the stream function is 'y': it must be"),
        (STRETCHED, {"walls": ("y", 0)}, r"walls= of StreamFunction is \('y', 0\): name ends"),
        (STRETCHED, {"walls": None}, "walls= of StreamFunction is None: name ends"),
        (STRETCHED, {"mean_flow": (jnp.ones(2), 1.0)}, r"shapes \[\(7, 4\), \(2,\), \(\)\]"),
        (CHANNEL, {"psi": jnp.ones((9, 7))}, r"of shape \(8, 6\)"),
    ],
)
def test_what_gives_no_plane_flow_is_refused(grid: Grid, options: dict, said: str):
    with runtime_types.without(), pytest.raises(InputError, match=said):
        given: dict[str, Any] = {"psi": rough(grid)} | options
        StreamFunction(**given).evaluate(grid)
