"""The U-Net as a closure: where it looks, what it is at first, and that it can be trained."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import taylor_rate
from smooth import box

from impindiff._errors import InputError
from impindiff.grid import Grid
from impindiff.integrate import ForwardEuler
from impindiff.latent import ConvolutionalClosure, learned
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import Reaction, System

KEY = jax.random.key(0)


def closure(num_axes: int, names=("r",), *, levels: int = 1, **options) -> ConvolutionalClosure:
    """One whose last layer is not zero any more, in double precision."""
    inputs = {"u": (0.0, 2.0), "v": (-1.0, 1.0)}
    made = ConvolutionalClosure(names, inputs, num_axes, width=4, levels=levels, key=KEY, **options)
    rng = np.random.default_rng(1)
    head = jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape)), made.head)
    made = eqx.tree_at(lambda c: c.head, made, head)
    return jax.tree.map(lambda a: a.astype(jnp.float64) if eqx.is_array(a) else a, made)


def fields(shape: tuple[int, ...]) -> dict:
    rng = np.random.default_rng(2)
    return {name: jnp.asarray(rng.uniform(size=shape)) for name in "uv"}


@pytest.mark.thorough
@pytest.mark.parametrize("shape", [(8,), (8, 4), (4, 8, 4)])
@pytest.mark.parametrize("levels", [0, 1, 2])
def test_shapes_and_going_around(shape: tuple[int, ...], levels: int):
    """On a ring a shift by whole coarse cells shifts the result; two components lead."""
    grid, values = box(*shape), fields(shape)
    net = closure(len(shape), ("a", "b"), levels=levels)
    found = np.asarray(net.evaluate(grid, None, values))
    assert found.shape == (2, *shape) and np.ptp(found) > 1e-3
    shift = 2**levels
    moved = {name: jnp.roll(value, shift, axis=0) for name, value in values.items()}
    np.testing.assert_allclose(
        net.evaluate(grid, None, moved), np.roll(found, shift, axis=1), rtol=1e-10, atol=1e-10
    )


def test_at_an_end_nothing_goes_around():
    shape = (32,)
    ends = Grid.uniform(shape, ((0.0, 1.0),))
    net, values = closure(1, levels=0), fields(shape)
    changed = values | {"u": values["u"].at[-1].add(1.0)}
    for grid, reaches in ((ends, False), (box(*shape), True)):
        change = np.asarray(net.evaluate(grid, None, changed) - net.evaluate(grid, None, values))
        assert (abs(change[0]) > 1e-12) == reaches and abs(change[-1]) > 1e-12
        assert abs(change[10]) == 0


def convolved(layer, z: np.ndarray, periodic: bool) -> np.ndarray:
    """A kernel of three cells, its first entry on the cell before; (channels, cells)."""
    weight, bias = np.asarray(layer.weight), np.asarray(layer.bias)
    padded = np.pad(z, ((0, 0), (1, 1)), "wrap" if periodic else "edge")
    parts = [weight[:, :, k] @ padded[:, k : k + z.shape[1]] for k in range(3)]
    return sum(parts) + bias[:, None]


@pytest.mark.parametrize("periodic", [True, False])
def test_it_is_the_network_of_its_formula(periodic: bool):
    """Two convolutions; the same on pairs of cells; back up, beside what was found before."""
    net, values = closure(1), fields((6,))
    grid = Grid.uniform((6,), ((0.0, 1.0),), periodic=periodic)

    def block(layers, z):
        for layer in (layers.first, layers.second):
            z = np.asarray(jax.nn.gelu(convolved(layer, z, periodic)))
        return z

    # u is expected in (0, 2), v in (-1, 1).
    fine = block(net.down[0], np.stack([np.asarray(values["u"]) - 1, np.asarray(values["v"])]))
    coarse = block(net.down[1], (fine[:, 0::2] + fine[:, 1::2]) / 2)
    whole = block(net.up[0], np.concatenate([fine, np.repeat(coarse, 2, axis=1)]))
    head = np.asarray(net.head.weight)[:, :, 0] @ whole + np.asarray(net.head.bias)[:, None]
    np.testing.assert_allclose(net.evaluate(grid, None, values), head[0], rtol=1e-10)


@pytest.mark.thorough
def test_what_it_is_by_default():
    """Three levels of 16, 32 and 64 channels, drawn with He's spread; zero at the end."""
    net = ConvolutionalClosure("r", {"u": (0.0, 1.0)}, 1, key=KEY)
    shapes = [(16, 1, 3), (32, 16, 3), (64, 32, 3)]
    assert [block.first.weight.shape for block in net.down] == shapes
    assert [block.first.weight.shape for block in net.up] == [(32, 96, 3), (16, 48, 3)]
    spread = float(np.std(np.asarray(net.down[2].second.weight)))
    assert spread == pytest.approx((2 / (64 * 3)) ** 0.5, rel=0.03)


@pytest.mark.thorough
def test_it_is_nothing_at_first_and_learned():
    net = ConvolutionalClosure("r", {"u": (0.0, 1.0)}, 2, key=KEY)
    assert not np.asarray(net.evaluate(box(8, 8), None, {"u": jnp.ones((8, 8))})).any()
    assert all(jax.tree.leaves(eqx.filter(learned(net), eqx.is_array_like)))


@pytest.mark.thorough
def test_the_gradient_of_a_recurrent_network():
    grid, start = box(8, 4), fields((8, 4))
    net = closure(2, ("r", "s"))
    parts = {"u": lambda r: r[0], "v": lambda r: -r[1]}
    weights, rest = eqx.partition(net, eqx.is_inexact_array)

    def loss(weights):
        rate = eqx.combine(weights, rest)
        equations = {name: [Reaction(part)] for name, part in parts.items()}
        system = System(grid, equations, coefficients={"r": rate})
        end = simulate(system, start, TimeGrid.build(0.0, 0.2, 0.1), ForwardEuler())
        return sum(jnp.sum(value**2) for value in end.states.values())

    assert taylor_rate(loss, weights, step=1e-4) == pytest.approx(2, abs=0.1)


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: closure(2, levels=2).evaluate(box(8, 6), None, fields((8, 6))), "fewer levels"),
        (lambda: closure(2).evaluate(box(8), None, fields((8,))), "num_axes=1 on a grid"),
        (lambda: closure(2).evaluate(None, None, fields(())), "the system's grid has 0"),
        (lambda: closure(2, ()), "a name of its own for each component"),
        (lambda: closure(2, levels=-1), "number of levels of .* is -1"),
        (lambda: closure(0), "number of axes of .* is 0"),
        (lambda: ConvolutionalClosure("r", {"u": (1, 1)}, 2, key=KEY), "high > low"),
    ],
)
def test_what_cannot_be_is_refused(make, said: str):
    with pytest.raises(InputError, match=said):
        make()


def test_what_stands_in_solid_cells_is_not_seen():
    solid = np.arange(16) == 5
    grid = Grid(Grid.uniform((16,), ((0.0, 1.0),)).axes, solid=solid)
    net, values = closure(1), fields((16,))
    junk = {name: jnp.where(solid, -9999.0, value) for name, value in values.items()}
    assert jnp.array_equal(net.evaluate(grid, None, junk), net.evaluate(grid, None, values))
