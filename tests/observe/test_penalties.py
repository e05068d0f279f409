"""Penalties: the integrals that they stand for, on grids of several kinds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
from gradients import taylor_rate

import impindiff as ipd
from impindiff import Axis, Grid, InputError

LINE = Grid([Axis.graded("x", 0.0, 2.0, 12, 3.0)])
RING = Grid.uniform((64,), ((0.0, 1.0),), periodic=True)
SQUARE = Grid.uniform((40, 30), ((0.0, 1.0), (0.0, 2.0)))
DISC = Grid([Axis("r", 0.0, 1.0, 4)], "cylindrical")
CYLINDER = Grid([Axis("r", 0.0, 1.0, 40), Axis("z", 0.0, 2.0, 30)], "cylindrical")


def value(penalty, grid: Grid, **latents) -> float:
    fields = {name: jnp.asarray(field) for name, field in latents.items()}
    return float(jnp.sum(penalty.residuals(fields, {}, grid) ** 2))


def walled(grid: Grid, walls) -> float:
    return value(
        ipd.observations.DivergenceFree("k", 1.0, walls=walls), grid, k=np.ones(grid.shape)
    )


def test_smoothness_is_the_mean_squared_gradient():
    turn = 2 * np.pi
    k = np.sin(turn * RING.centres()[0])
    # The mean of cos^2 is a half; the difference over one cell lowers the slope by a known factor.
    exact = turn**2 / 2 * np.sinc(1 / 64) ** 2
    assert value(ipd.observations.Smoothness("k", 0.1), RING, k=k) == pytest.approx(
        0.1 * exact, rel=1e-12
    )
    x, y = SQUARE.centres()
    found = value(ipd.observations.Smoothness(("a", "b"), 1.0), SQUARE, a=3 * x, b=2 * y)
    # At the ends a half cell has no slope of its own.
    assert found == pytest.approx(9 * 39 / 40 + 4 * 29 / 30, rel=1e-12)


def test_total_variation_is_a_jump_by_its_height_however_steep():
    epsilon = 1e-9
    penalty = ipd.observations.TotalVariation("k", 1.0, epsilon=epsilon)
    x = RING.centres()[0]
    up_and_down = np.where((x > 0.25) & (x < 0.75), 2.0, 0.0)
    ramp = np.clip(8 * np.minimum(x - 0.25, 0.75 - x), 0, 2)
    assert value(penalty, RING, k=up_and_down) == pytest.approx(4.0, rel=1e-6)
    assert value(penalty, RING, k=ramp) == pytest.approx(4.0, rel=0.05)
    assert value(penalty, RING, k=np.ones(64)) == pytest.approx(epsilon)


STEEP = Axis.graded("x", 0.0, 2.0, 12, 100.0)


@pytest.mark.parametrize(
    "grid",
    [Grid([STEEP]), Grid([STEEP, Axis("y", 0.0, 3.0, 4)]), Grid([STEEP], "cylindrical")],
    ids=["line", "plane", "rings"],
)
def test_a_jump_between_unequal_cells_costs_its_height_times_the_area_of_its_face(grid: Grid):
    penalty = ipd.observations.TotalVariation("k", 1.0, epsilon=1e-12)
    faces, volume = grid.axes[0].faces[1:-1], grid.cell_volumes().sum()
    areas = 2 * np.pi * faces if grid.is_radial(0) else np.full(11, volume / 2)
    for face, area in zip(faces, areas, strict=True):
        jump = np.where(grid.centres()[0] < face, 5.0, 6.0)
        assert value(penalty, grid, k=jump) == pytest.approx(area / volume, rel=1e-9)


def test_divergence_vanishes_for_incompressible_velocities_and_not_for_others():
    both = ipd.observations.DivergenceFree(("u", "v"), 2.0)
    x, y = SQUARE.centres()
    assert value(both, SQUARE, u=2 * x + y, v=3 * x - 2 * y) < 1e-24
    assert value(both, SQUARE, u=2 * x, v=1 * y) == pytest.approx(2 * 9, rel=1e-10)
    r, z = CYLINDER.centres()
    # The divergence of (r, z) in a cylinder is 3, exactly on any cell.
    assert value(both, CYLINDER, u=r, v=z) == pytest.approx(2 * 9, rel=1e-10)
    assert value(both, CYLINDER, u=r, v=-2 * z) < 1e-20
    stretched = ipd.observations.DivergenceFree("u", 1.0)
    assert value(stretched, LINE, u=5 * LINE.centres()[0]) == pytest.approx(25, rel=1e-10)


def test_a_flow_into_a_wall_is_divergence_where_the_wall_is_named():
    """A uniform flow has none inside, and all of it stops in the last cells, 1/h = 15 each."""
    across = {"u": np.zeros(SQUARE.shape), "v": np.full(SQUARE.shape, 0.5)}

    def found(walls=()) -> float:
        return value(
            ipd.observations.DivergenceFree(("u", "v"), 2.0, walls=walls), SQUARE, **across
        )

    one_row = 2.0 * (0.5 * 15) ** 2 / 30
    assert found() == 0 == found("x")
    assert found("y") == found(["x", "y"]) == pytest.approx(2 * one_row, rel=1e-12)
    assert found(("y", "lower")) == found([("y", "upper")]) == pytest.approx(one_row, rel=1e-12)


def test_a_flow_along_walls_is_free_of_divergence():
    r"""That of $\psi = \sin\pi x\,\sin\pi y$, zero on all sides: of equal cells to round-off."""
    grid = Grid.uniform((20, 20), ((0.0, 1.0), (0.0, 1.0)))
    x, y = (np.pi * at for at in grid.centres())
    flow = {"u": np.sin(x) * np.cos(y), "v": -np.cos(x) * np.sin(y)}
    penalty = ipd.observations.DivergenceFree(("u", "v"), 1.0, walls=("x", "y"))
    assert value(penalty, grid, **flow) < 1e-28
    assert value(penalty, grid, u=flow["u"], v=-flow["v"]) > 1


def test_walls_are_where_a_cylinder_ends():
    """The distance from the axis of symmetry has one end, which its name alone stands for."""
    r, z = CYLINDER.centres()
    flow = {"u": 0 * r, "v": 0 * z}
    flow["u"][-1] = 1.0
    both, one = (
        value(ipd.observations.DivergenceFree(("u", "v"), 1.0, walls=walls), CYLINDER, **flow)
        for walls in ("r", ("r", "upper"))
    )
    assert both == one > 0


def test_obstacles_take_no_part():
    solid = np.zeros((40, 30), bool)
    solid[10:12, 5:9] = True
    grid = Grid(SQUARE.axes, solid=solid)
    x, _ = SQUARE.centres()
    k = np.where(solid, 1e6, 1.0)
    assert value(ipd.observations.Smoothness("k", 1.0), grid, k=k) == 0
    assert value(
        ipd.observations.TotalVariation("k", 1.0, epsilon=1e-6), grid, k=k
    ) == pytest.approx(1e-6)
    zero_at_walls = ipd.observations.DivergenceFree(("u", "v"), 1.0)
    wild = np.where(solid, 1e6, 0.0)
    assert value(zero_at_walls, grid, u=wild, v=wild) == 0
    assert x.shape == k.shape


def test_weight_decay_is_of_all_that_is_learned():
    learned = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([[3.0]])}
    residuals = ipd.observations.WeightDecay(0.5).residuals({}, learned, LINE)
    assert float(jnp.sum(residuals**2)) == pytest.approx(7.0)


@pytest.mark.parametrize(
    "penalty",
    [
        ipd.observations.Smoothness("k", 0.3),
        ipd.observations.TotalVariation("k", 0.3, epsilon=0.1),
        ipd.observations.DivergenceFree("k", 1.0),
    ],
)
def test_gradients_leave_a_second_order_remainder(penalty):
    k = jnp.asarray(np.random.default_rng(0).normal(size=LINE.shape))

    def loss(k: jax.Array):
        # A quartic, for a sum of squares of what is linear leaves no change of order to see.
        return jnp.sum(penalty.residuals({"k": k}, {}, LINE) ** 2) ** 2

    assert taylor_rate(loss, k) == pytest.approx(2, abs=0.1)


@pytest.mark.filterwarnings("ignore:A JAX array is being set as static")
@pytest.mark.parametrize("weight", ["1", None, np.ones(3)])
@pytest.mark.parametrize(
    "make",
    [
        lambda weight: ipd.observations.Smoothness("k", weight),
        lambda weight: ipd.observations.TotalVariation("k", weight),
        lambda weight: ipd.observations.TotalVariation("k", 1.0, epsilon=weight),
        lambda weight: ipd.observations.DivergenceFree(("u", "v"), weight),
        ipd.observations.WeightDecay,
    ],
)
def test_a_weight_that_is_no_number_is_refused(make, weight):
    with runtime_types.without(), pytest.raises(InputError, match="must be one number"):
        make(weight)


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: ipd.observations.Smoothness("k", 0.0),
            "Smoothness has weight 0.0: it must be positive",
        ),
        (lambda: ipd.observations.WeightDecay(-1.0), "WeightDecay has weight -1.0"),
        (
            lambda: ipd.observations.TotalVariation("k", 1.0, epsilon=0.0),
            "TotalVariation has epsilon 0.0",
        ),
        (
            lambda: value(ipd.observations.Smoothness("d", 1.0), LINE, k=np.ones(12)),
            "are 'k': name one",
        ),
        (
            lambda: value(ipd.observations.DivergenceFree("k", 1.0), SQUARE, k=np.ones((40, 30))),
            "2 components",
        ),
        (lambda: walled(LINE, "y"), r"walls= of DivergenceFree names 'y'.*of the grid \('x'\)"),
        (lambda: walled(LINE, ("x", "top")), r"names 'top': name an axis of the grid \('x'\)"),
        (lambda: walled(LINE, [("x", "top")]), r"names \('x', 'top'\).*or \('x', 'upper'\)"),
        (lambda: walled(RING, "x"), "names 'x', but the axis 'x' is periodic and has no such end"),
        (lambda: walled(DISC, ("r", "lower")), "begins at the axis of symmetry"),
    ],
)
def test_what_cannot_be_penalised_is_refused(make, message: str):
    with pytest.raises(InputError, match=message):
        make()


def test_the_slope_between_unequal_cells_counts_by_half_of_both():
    """At a slope of 2 everywhere; half a cell at either end has none."""
    grid = Grid([Axis.from_faces("x", [0.0, 1.0, 4.0, 4.5])])
    found = value(ipd.observations.Smoothness("k", 0.3), grid, k=2 * grid.centres()[0])
    assert found == pytest.approx(0.3 * 4 * (2 + 1.75) / 4.5, rel=1e-12)
