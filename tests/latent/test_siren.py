"""The sine network: a smooth periodic field, whatever its weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import taylor_rate
from smooth import box

from impindiff._errors import InputError
from impindiff.grid import Grid
from impindiff.latent import SineField
from impindiff.latent._output import Output


def network(num_axes: int = 2, names: tuple[str, ...] = ("a",), **options) -> SineField:
    return SineField(
        num_axes, names, **{"width": 8, "depth": 2, "key": jax.random.key(1)} | options
    )


evaluate = eqx.filter_jit(SineField.evaluate)


def double(tree):
    return jax.tree.map(lambda a: a.astype(jnp.float64), tree)


@pytest.mark.many
@pytest.mark.parametrize("names", [("a",), ("a", "b")])
@pytest.mark.parametrize("shape", [(7,), (5, 4), (3, 4, 2)])
def test_shapes(shape: tuple[int, ...], names: tuple[str, ...]):
    """One component has no axis of its own; several lead."""
    value = evaluate(network(len(shape), names), box(*shape))
    assert value.shape == (shape if len(names) == 1 else (len(names), *shape))
    assert value.dtype == jnp.float64 and np.isfinite(value).all()


@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_finer_grids_see_the_same_field(num_axes: int):
    """Every third cell of a grid three times as fine has the centre of a coarse one."""
    field = double(network(num_axes, ("a", "b")))
    coarse = evaluate(field, box(*[4] * num_axes))
    fine = evaluate(field, box(*[12] * num_axes))
    every_third = (slice(None), *[slice(1, None, 3)] * num_axes)
    np.testing.assert_allclose(fine[every_third], coarse, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_field_closes_on_itself(axis: int):
    """Its curvature across the boundary is that of the cells beside it, but for the cell width."""
    field = double(network())
    for num_cells in (108, 324):
        fine = np.asarray(evaluate(field, box(*[num_cells if k == axis else 3 for k in range(2)])))
        bend = (np.roll(fine, -1, axis) - 2 * fine + np.roll(fine, 1, axis)) * num_cells**2
        across, inside = np.take(bend, [0, -1], axis), np.take(bend, [1, -2], axis)
        np.testing.assert_allclose(across, inside, atol=60 / num_cells * np.abs(bend).max())


def test_the_field_goes_with_its_box():
    """Coordinates are turns around the box, wherever that lies and however long it is."""
    elsewhere = Grid.uniform((5, 4), ((3.0, 4.0), (-7.0, 2.0)), periodic=True)
    field = double(network())
    np.testing.assert_allclose(field.evaluate(elsewhere), field.evaluate(box(5, 4)), rtol=1e-10)


def test_along_an_axis_with_ends_the_field_is_open():
    """It changes from end to end, where a ring would close, and does not see a finer grid."""
    field = double(network(1))

    def on(cells, periodic):
        grid = Grid.uniform((cells,), ((0.0, 2.0),), periodic=periodic)
        return np.asarray(evaluate(field, grid))

    jumps = [abs(v[-1] - v[0]) / np.abs(np.diff(v)).max() for v in (on(90, False), on(90, True))]
    assert jumps[0] > 10 and jumps[1] < 1.01
    np.testing.assert_allclose(on(30, False), on(90, False)[1::3], rtol=1e-12)


def test_values_start_within_the_output_range():
    field = network(2, ("a", "b"), width=64, depth=3, output_range=(2.0, 5.0))
    value = evaluate(field, box(32, 24))
    assert 2 < float(value.min()) < float(value.max()) < 5
    assert float(value.mean()) == pytest.approx(3.5, abs=0.6)
    assert float(value.std()) > 0.1


def test_it_is_the_network_of_its_formula():
    """Written out for one position: turns, sines, a linear head, midpoint and half-width."""
    grid = Grid.uniform((4, 3), ((2.0, 4.0), (-1.0, 5.0)), periodic=(True, False))
    field = double(network(2, ("a", "b"), frequency=2.5, output_range=((1, 3), (-10, 30))))
    around, between = 2 * np.pi * (1.5 / 4), np.pi * (2.5 / 3 - 0.5)
    z = np.array([np.sin(around), np.cos(around), np.sin(between), np.cos(between)])
    for layer in field.hidden.layers:
        z = np.sin(2.5 * (z @ np.asarray(layer.weight) + np.asarray(layer.bias)))
    head = z @ np.asarray(field.head.weight) + np.asarray(field.head.bias)
    expected = np.array([2.0, 10.0]) + np.array([1.0, 20.0]) * head
    np.testing.assert_allclose(field.evaluate(grid)[:, 1, 2], expected, rtol=1e-12)


def drawn(layer) -> tuple[float, float]:
    """The largest weight and the largest bias of a layer."""
    return float(jnp.abs(layer.weight).max()), float(jnp.abs(layer.bias).max())


def test_weights_are_drawn_within_the_bounds_of_sitzmann_et_al():
    """And come close to them, so many as they are; biases within the root of the inputs."""
    field = network(1, width=300, frequency=3.0)
    bounds = [(1 / 2, 2**-0.5), ((6 / 300) ** 0.5 / 3, 300**-0.5)]
    for layer, (weight, bias) in zip(field.hidden.layers, bounds, strict=True):
        found = drawn(layer)
        assert 0.97 * weight < found[0] <= weight and 0.97 * bias < found[1] <= bias
    assert 0.97 * bounds[1][0] < drawn(field.head)[0] <= bounds[1][0]


def test_what_it_is_by_default():
    field = SineField(1, ("a",), key=jax.random.key(0))
    assert [layer.weight.shape for layer in field.hidden.layers] == [(2, 64), (64, 64), (64, 64)]
    assert field.hidden.frequency == 6.0
    assert (float(field.output.midpoint[0]), float(field.output.half_width[0])) == (0.5, 0.5)


@pytest.mark.parametrize(
    "options, low, middle, high",
    [
        ({}, 0.0, 0.5, 1.0),
        ({"output_range": (2.0, 6.0)}, 2.0, 4.0, 6.0),
        ({"bounds": (3.0, 7.0)}, 3 + 4 / (1 + np.e), 5.0, 3 + 4 / (1 + 1 / np.e)),
        ({"bounds": (3.0, np.inf)}, 3 + 1 / np.e, 4.0, 3 + np.e),
        ({"bounds": (3.0, 7.0), "output_range": (4.0, 6.0)}, 4.0, 5.0, 6.0),
        ({"bounds": (3.0, np.inf), "output_range": (4.0, 7.0)}, 4.0, 5.0, 7.0),
    ],
)
def test_what_the_head_gives_is_brought_to_the_output_range(options, low, middle, high):
    """By default to (0, 1), or to what the bounds make of -1 and 1."""
    values = Output(("a",), **options)(jnp.array([[-1.0, 0.0, 1.0]]), (3,))
    np.testing.assert_allclose(values, [low, middle, high], rtol=1e-6)


@pytest.mark.parametrize(
    "num_axes, names, width, depth", [(1, 1, 8, 1), (2, 2, 16, 3), (3, 3, 4, 2)]
)
def test_number_of_parameters(num_axes: int, names: int, width: int, depth: int):
    field = network(num_axes, tuple("abc"[:names]), width=width, depth=depth)
    count = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(field, eqx.is_array)))
    first = (2 * num_axes + 1) * width
    assert count == first + (depth - 1) * (width + 1) * width + (width + 1) * names + 2 * names


def test_the_key_alone_makes_the_weights():
    assert eqx.tree_equal(network(), network())
    assert not eqx.tree_equal(network(), network(key=jax.random.key(2)))


def test_gradients_with_respect_to_the_weights():
    field, grid = double(network(2, ("a", "b"))), box(5, 4)

    def loss(field: SineField):
        return jnp.sum(jnp.exp(field.evaluate(grid)))

    assert taylor_rate(loss, field, step=1e-4) == pytest.approx(2, abs=0.1)
    for leaf in jax.tree.leaves(jax.grad(loss)(field)):
        assert np.isfinite(leaf).all() and float(jnp.abs(leaf).max()) > 0


@pytest.mark.parametrize(
    "options, said",
    [
        ({"names": ()}, "a name of its own"),
        ({"names": ("a", "a")}, "a name of its own"),
        ({"num_axes": 4}, "a grid has 1, 2 or 3"),
        ({"key": 0}, r"key=0: give one such as key=jax.random.key\(0\)"),
        ({"num_axes": 0}, "number of axes of .* is 0: .* at least 1"),
        ({"width": 0}, "width of a neural field is 0"),
        ({"depth": 0}, "depth of a neural field is 0"),
        ({"frequency": 0.0}, "frequency of a neural field is 0.0"),
        ({"output_range": (1.0, 1.0)}, "high > low"),
        ({"output_range": (1.0, 0.0)}, "high > low"),
        ({"output_range": (0.0, np.inf)}, "finite"),
        ({"output_range": (np.nan, 1.0)}, "finite"),
    ],
)
def test_a_network_that_cannot_be_is_refused(options, said: str):
    with pytest.raises(InputError, match=said):
        network(**options)


def test_a_grid_of_other_dimensions_is_refused():
    with pytest.raises(InputError, match="num_axes=2, but the grid has 3: give num_axes=3"):
        network().evaluate(box(3, 2, 2))
