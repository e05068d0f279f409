"""Observation operators: exact where the readings are known, and refused where they cannot be."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
import xarray as xr

import impindiff as ipd
from impindiff import Axis, Grid, InputError

SOLID = np.zeros((6, 5), bool)
SOLID[2, 1:3] = True
STRETCHED = Grid([Axis.graded("x", 0.0, 2.0, 6, 4.0), Axis("y", -1.0, 1.0, 5)])
GRIDS = {
    "bounded": Grid.uniform((7,), ((0.0, 1.0),)),
    "periodic": Grid.uniform((6, 5), ((0.0, 2.0), (-1.0, 1.0)), periodic=(True, False)),
    "stretched": STRETCHED,
    "solid": Grid(STRETCHED.axes, solid=SOLID),
    "cylindrical": Grid([Axis("r", 0.0, 1.0, 6), Axis("z", 0.0, 2.0, 5)], "cylindrical"),
    "box": Grid.uniform((4, 3, 5), ((0.0, 1.0),) * 3, periodic=(False, True, False)),
}


@pytest.fixture(params=GRIDS.values(), ids=list(GRIDS))
def grid(request) -> Grid:
    return request.param


def random_points(grid: Grid, count: int, seed: int = 0) -> np.ndarray:
    """Anywhere in the domain but in obstacles."""
    random = np.random.default_rng(seed)
    points = np.stack([random.uniform(a.lower, a.upper, count) for a in grid.axes], axis=-1)
    return points if grid.solid is None else points[~grid.solid[cells_at(grid, points)]]


def cells_at(grid: Grid, points: np.ndarray) -> tuple[np.ndarray, ...]:
    """By looking at each face in turn."""
    return tuple(
        (at[:, None] >= axis.faces[None, 1:-1]).sum(1)
        for axis, at in zip(grid.axes, points.T, strict=True)
    )


def random_field(grid: Grid, seed: int = 1) -> jnp.ndarray:
    return jnp.asarray(np.random.default_rng(seed).normal(size=grid.shape))


@pytest.mark.many
def test_weights_of_sensors_are_a_mean_of_open_cells(grid: Grid):
    points = random_points(grid, 40)
    operator = ipd.Sensors("u", "wells", positions=points).prepare(grid)
    weights, cells = np.asarray(operator.weights), np.asarray(operator.cells)
    assert weights.shape == (len(points), 2**grid.num_axes)
    assert np.all(weights >= 0)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-14)
    if grid.solid is not None:
        assert np.all(weights[grid.solid.ravel()[cells]] == 0)
    field = random_field(grid)
    readings = operator({"u": field})
    assert readings.shape == (len(points),)
    assert np.all((readings >= field.min()) & (readings <= field.max()))


def test_sensors_at_centres_read_the_cells(grid: Grid):
    points = np.stack([at.ravel() for at in grid.centres()], axis=-1)
    is_open = slice(None) if grid.solid is None else ~grid.solid.ravel()
    operator = ipd.Sensors("u", "wells", positions=points[is_open]).prepare(grid)
    field = random_field(grid)
    np.testing.assert_allclose(operator({"u": field}), field.ravel()[is_open], rtol=1e-12)


@pytest.mark.parametrize("name", ["bounded", "stretched", "cylindrical"])
def test_linear_fields_are_read_exactly_between_centres_and_held_beyond(name: str):
    grid = GRIDS[name]
    points = random_points(grid, 40)
    slopes = np.arange(1.0, 1 + grid.num_axes)
    field = sum(c * at for c, at in zip(slopes, grid.centres(), strict=True))
    operator = ipd.Sensors("u", "wells", positions=points).prepare(grid)
    held = [
        np.clip(at, axis.centres[0], axis.centres[-1])
        for at, axis in zip(points.T, grid.axes, strict=True)
    ]
    expected = sum(c * at for c, at in zip(slopes, held, strict=True))
    np.testing.assert_allclose(operator({"u": jnp.asarray(field)}), expected, rtol=1e-12)


def test_interpolation_is_of_second_order():
    """Of a smooth field with one periodic and one stretched axis, away from the ends."""

    def field(x, y):
        return np.sin(np.pi * x) * np.exp(y)

    random = np.random.default_rng(2)
    points = np.stack([random.uniform(0, 2, 200), random.uniform(-0.8, 0.8, 200)], axis=-1)

    def error(cells: int) -> float:
        axes = [Axis("x", 0.0, 2.0, cells, periodic=True), Axis.graded("y", -1, 1, cells, 3.0)]
        grid = Grid(axes)
        operator = ipd.Sensors("u", "wells", positions=points).prepare(grid)
        found = operator({"u": jnp.asarray(field(*grid.centres()))})
        return float(np.sqrt(np.mean((np.asarray(found) - field(*points.T)) ** 2)))

    assert np.log2(error(32) / error(64)) == pytest.approx(2, abs=0.1)


def test_a_periodic_axis_goes_around():
    grid = GRIDS["periodic"]
    field = {"u": random_field(grid)}
    here, one_turn_on = (
        ipd.Sensors("u", "wells", positions=[[x, 0.3]]).prepare(grid)(field) for x in (0.1, 2.1)
    )
    np.testing.assert_allclose(here, one_turn_on, rtol=1e-12)
    low, high = field["u"][0, 2], field["u"][-1, 2]
    at_seam = ipd.Sensors("u", "wells", positions=[[0.0, 0.0]]).prepare(grid)(field)
    np.testing.assert_allclose(at_seam, [(low + high) / 2], rtol=1e-12)


def test_line_averages_are_exact_for_fields_constant_in_cells(grid: Grid):
    """Against the mean over very many points of the line that lie in open cells."""
    start, end = random_points(grid, 4, seed=3)[:2], random_points(grid, 4, seed=4)[:2]
    operator = ipd.observations.LineAverage("u", "beams", start=start, end=end).prepare(grid)
    field = random_field(grid)
    shares = (np.arange(200_000) + 0.5) / 200_000
    for reading, a, b in zip(operator({"u": field}), start, end, strict=True):
        cells = cells_at(grid, a + shares[:, None] * (b - a))
        is_open = slice(None) if grid.solid is None else ~grid.solid[cells]
        expected = np.asarray(field)[cells][is_open].mean()
        assert float(reading) == pytest.approx(expected, abs=1e-4)
    one = ipd.observations.LineAverage("u", "beam", start=start[0], end=end[0]).prepare(grid)(
        {"u": field}
    )
    assert one.shape == ()
    np.testing.assert_allclose(one, operator({"u": field})[0], rtol=1e-12)


def test_a_line_goes_around_a_ring():
    grid = Grid.uniform((4,), ((0.0, 1.0),), periodic=True)
    field = {"u": jnp.array([1.0, 2.0, 4.0, 8.0])}
    beam = ipd.observations.LineAverage("u", "beam", start=0.75, end=1.5).prepare(grid)
    assert float(beam(field)) == pytest.approx((8 + 1 + 2) / 3)
    twice = ipd.observations.LineAverage("u", "beam", start=-1.0, end=1.0).prepare(grid)
    assert float(twice(field)) == pytest.approx(15 / 4)


def test_volume_averages_weigh_by_volume(grid: Grid):
    constant = {"u": jnp.full(grid.shape, 3.5)}
    assert float(
        ipd.observations.VolumeAverage("u", "total").prepare(grid)(constant)
    ) == pytest.approx(3.5)
    field, mask = random_field(grid), np.asarray(random_field(grid, seed=5) > 0)
    is_open = np.ones(grid.shape, bool) if grid.solid is None else ~grid.solid
    counted = mask & is_open
    expected = np.average(np.asarray(field)[counted], weights=grid.cell_volumes()[counted])
    found = ipd.observations.VolumeAverage("u", "total", weight=mask).prepare(grid)({"u": field})
    assert float(found) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["bounded", "stretched", "cylindrical"])
def test_totals_are_sums_by_volume(name: str):
    grid = GRIDS[name]
    field, weight = random_field(grid), np.asarray(random_field(grid, seed=5))
    open_ = np.ones(grid.shape) if grid.solid is None else ~grid.solid
    make = ipd.observations.VolumeIntegral
    for each, wanted in ((weight, weight), (-1.0, -np.ones(grid.shape))):
        found = make("u", "total", weight=each).prepare(grid)({"u": field})
        exact = (wanted * np.asarray(field) * grid.cell_volumes() * open_).sum()
        assert float(found) == pytest.approx(exact, rel=1e-12)
    for wrong in (np.zeros(grid.shape), np.full(grid.shape, np.nan), np.ones(3)):
        with pytest.raises(InputError, match=f"shape {re.escape(str(wrong.shape))}: it must be a"):
            make("u", "total", weight=wrong).prepare(grid)


def test_volume_average_of_the_radius_in_a_cylinder():
    """The mean of r over a disc is two thirds of its radius, to second order."""
    grid = Grid([Axis("r", 0.0, 3.0, 100)], "cylindrical")
    found = ipd.observations.VolumeAverage("u", "total").prepare(grid)(
        {"u": jnp.asarray(grid.centres()[0])}
    )
    assert float(found) == pytest.approx(2.0, rel=1e-4)


def test_a_function_is_given_the_fields_it_names():
    grid = GRIDS["bounded"]
    state = {"u": random_field(grid), "v": random_field(grid, 2)}
    operator = ipd.observations.Measured(
        lambda v, u: jnp.stack([(u * v).sum(), v[0]]), "signal"
    ).prepare(grid)
    np.testing.assert_allclose(
        operator(state), [(state["u"] * state["v"]).sum(), state["v"][0]], rtol=1e-12
    )


def test_operators_are_linear_and_sparse_under_jit():
    grid = GRIDS["solid"]
    operator = ipd.Sensors("u", "wells", positions=random_points(grid, 9)).prepare(grid)
    assert operator.cells.size == 4 * len(operator.cells)
    field = random_field(grid)
    back = jax.jit(jax.grad(lambda u: operator({"u": u}).sum()))(field)
    assert float(jnp.vdot(back, field)) == pytest.approx(float(operator({"u": field}).sum()))
    assert np.all(np.asarray(back)[SOLID] == 0)


INSIDE = [[1.2, 0.0]]


@pytest.mark.parametrize("at", [0.25, 0.5, 0.5 - 1e-12])
def test_a_sensor_on_a_face_is_in_its_open_cell(at: float):
    """Whichever side the obstacle, from 0.25 to 0.5, is on."""
    solid = np.array([False, True, False, False])
    grid = Grid([Axis("x", 0, 1, 4)], solid=solid)
    read = ipd.Sensors("u", "wells", positions=[at]).prepare(grid)({"u": jnp.arange(4.0)})
    np.testing.assert_allclose(read, [0.0 if at < 0.3 else 2.0])


def test_a_sensor_on_a_face_between_solid_cells_is_refused():
    grid = Grid([Axis("x", 0, 1, 4)], solid=np.array([False, True, True, False]))
    with pytest.raises(InputError, match="in a solid cell"):
        ipd.Sensors("u", "wells", positions=[0.5]).prepare(grid)


@pytest.mark.parametrize("noise", [0.0, -1.0, np.nan, np.inf, np.zeros(3), [0.0, None]])
def test_noise_that_is_no_standard_deviation_is_refused_where_it_is_given(noise):
    for make in (
        lambda: ipd.Sensors("u", "wells", noise),
        lambda: ipd.Cells("u", noise=noise),
        lambda: ipd.observations.LineAverage("u", "wells", noise, start=0.0, end=1.0),
        lambda: ipd.observations.VolumeAverage("u", "wells", noise),
        lambda: ipd.observations.Measured(lambda u: u, "wells", noise),
    ):
        with runtime_types.without(), pytest.raises(InputError, match="must be positive and fin"):
            make()
    ipd.Sensors("u", "wells", np.array([0.1, np.nan]))


@pytest.mark.parametrize(
    "observation, message",
    [
        (
            ipd.Sensors("u", "wells", positions=[*INSIDE, [3.0, 0.0]]),
            r"sensor of 'wells', number 1 lies at \(x = 3, y = 0\), outside the domain x in \[0, 2",
        ),
        (
            ipd.Sensors("u", "wells", positions=[[0.5, -0.5]]),
            r"number 0 lies at \(x = 0.5, y = -0.5\), in a solid cell",
        ),
        (ipd.Sensors("u", "wells", positions=[[0.5, np.nan]]), "must be 2 finite number"),
        (ipd.Sensors("u", "wells", positions=[0.5, 0.0, 0.2]), r"of shape \(3,\)"),
        (ipd.Sensors("u", "wells"), "give positions=, or a dataset"),
        (
            ipd.observations.LineAverage("u", "beam", start=(0.5, 0.0), end=(0.5, 0.0)),
            "a line needs a length",
        ),
        (
            ipd.observations.LineAverage("u", "beam", start=(0.5, 0.0), end=(0.5, 1.5)),
            "outside the domain",
        ),
        (
            ipd.observations.LineAverage("u", "beam", start=(0.5, 0.0), end=INSIDE),
            "one end to each start",
        ),
        (
            ipd.observations.LineAverage("u", "beam", start=(0.5, -0.5), end=(0.51, -0.3)),
            "all in solid cells",
        ),
        (
            ipd.observations.VolumeAverage("u", "total", weight=np.ones(3)),
            r"weight of shape \(3,\)",
        ),
        (ipd.observations.VolumeAverage("u", "total", weight=-np.ones((6, 5))), "nowhere negative"),
        (ipd.observations.VolumeAverage("u", "total", weight=["all"]), "give numbers"),
        (ipd.observations.VolumeIntegral("u", "total", weight=["all"]), "give numbers"),
        (ipd.observations.VolumeAverage("u", "total", weight=SOLID), "positive in some cell"),
        (ipd.observations.Measured(lambda *fields: fields[0], "signal"), "must name the fields"),
    ],
)
def test_what_cannot_be_observed_is_refused(observation, message: str):
    with pytest.raises(InputError, match=message):
        observation.prepare(GRIDS["solid"])


def test_a_field_that_there_is_not_is_named():
    operator = ipd.observations.Measured(lambda u, w: u * w, "signal").prepare(GRIDS["bounded"])
    with pytest.raises(InputError, match="is of 'w', but the fields are 'u', 'v'"):
        operator({"u": jnp.zeros(7), "v": jnp.zeros(7)})


@pytest.mark.thorough
def test_a_forecast_is_measured_as_the_data_were():
    grid = GRIDS["periodic"]
    random = np.random.default_rng(6)
    values = random.normal(size=(2, 3, *grid.shape))
    described = {"u": {"units": "K", "long_name": "temperature"}}
    forecast = ipd.data.to_dataset(grid, [0.0, 0.5, 1.0], {"u": values}, {}, described)
    wells = xr.Dataset(
        {"wells": (("sample", "time", "well"), np.zeros((1, 1, 2)), {"units": "K"})},
        coords={"well_x": ("well", [0.5, 1.9]), "well_y": ("well", [0.0, 0.9])},
    )
    observe = [ipd.Sensors("u", "wells"), ipd.observations.VolumeAverage("u", "total")]
    found = ipd.observations.measure(forecast, grid, observe, wells)
    assert found["wells"].dims == ("sample", "time", "well")
    assert found["wells"].attrs["units"] == "K"
    assert list(found["well_x"].values) == [0.5, 1.9]
    at = np.array([[0.5, 0.0], [1.9, 0.9]])
    operator = ipd.Sensors("u", "wells", positions=at).prepare(grid)
    np.testing.assert_allclose(found["wells"][1, 2], operator({"u": jnp.asarray(values[1, 2])}))
    np.testing.assert_allclose(found["total"], values.mean(axis=(2, 3)))
    with pytest.raises(InputError, match="dataset lacks well_x along 'well'"):
        ipd.observations.measure(forecast, grid, observe, wells.drop_vars("well_x"))
    with pytest.raises(InputError, match="it holds no field at the centres"):
        ipd.observations.measure(forecast, STRETCHED, observe, wells)


def test_a_function_is_compiled_with_what_stands_around_it_when_it_is_given():
    factor = 0.0

    def signal(u):
        return factor * u

    read = eqx.filter_jit(lambda operator: operator({"u": jnp.array(1.0)}))
    for factor in (2.0, 3.0):
        operator = ipd.observations.Measured(signal, "signal").prepare(None)
        assert float(read(operator)) == factor
