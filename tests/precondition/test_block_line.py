"""Lines of coupled fields, also in the modes of the other axes: exact where they can be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import random_like

from impindiff.linear import BiCGStab, BlockStencil
from impindiff.precondition import BlockLineInverse, TransformLineInverse

FIELDS = ("a", "b", "c")


def structure(count):
    return jax.tree.structure(dict.fromkeys(FIELDS[:count], 0))


def state(shape, count, seed=0):
    return random_like({name: jnp.zeros(shape) for name in FIELDS[:count]}, seed)


def along(values, axis, num_axes):
    """Blocks that vary along one axis only, their places last."""
    shape = (*values.shape[:2], *(values.shape[2] if a == axis else 1 for a in range(num_axes)))
    return values.reshape(shape)


def stencil(shape, count, axis, kinds, seed=0, *, across=True):
    """Coefficients that vary along one axis only; ends across it as the modes are."""
    random = np.random.default_rng(seed)
    cells, num_axes = shape[axis], len(shape)

    def blocks(size):
        found = along(random.uniform(-size, size, (count, count, cells)), axis, num_axes)
        return np.array(np.broadcast_to(found, (count, count, *shape)))

    centre = blocks(1.0) + 8 * np.eye(count).reshape(count, count, *(1,) * num_axes)
    sides = []
    for number in range(num_axes):
        lower, upper = blocks(0.5), blocks(0.5)
        first = (..., *(0 if a == number else slice(None) for a in range(num_axes)))
        last = (..., *(-1 if a == number else slice(None) for a in range(num_axes)))
        if number != axis:
            if not across:
                lower, upper = 0 * lower, 0 * upper
            elif kinds[number] != "periodic":
                # An end that passes nothing gives back what the missing neighbour took; one that
                # holds a value takes it twice.
                upper = lower
                ends = kinds[number].partition("-")
                for place, word in ((first, ends[0]), (last, ends[2] or ends[0])):
                    centre[place] += lower[place] * (1 if word == "neumann" else -1)
        if kinds[number] != "periodic":
            lower, upper = lower.copy(), upper.copy()
            lower[first], upper[last] = 0, 0
        sides.append((jnp.asarray(lower), jnp.asarray(upper)))
    return BlockStencil(jnp.asarray(centre), tuple(sides), structure(count))


def assert_inverse(make, operator, given):
    """What is made of the operator is its inverse, and transposed the inverse of its transpose."""

    @jax.jit
    def there_and_back(operator, v):
        preconditioner = make(operator)
        turned = operator.transpose()
        return operator(preconditioner.apply(v)), turned(preconditioner.transpose().apply(v))

    for found in there_and_back(operator, given):
        for name, value in given.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-11, atol=1e-12)


def lines(axis):
    return lambda operator: BlockLineInverse(
        operator.sides[axis][0], operator.centre, operator.sides[axis][1], axis
    )


def dot(left, right):
    return sum(jnp.vdot(left[name], right[name]) for name in left)


@pytest.mark.many
@pytest.mark.parametrize(
    "shape, count, axis, kind",
    [
        ((9,), 3, 0, "periodic"),
        ((4, 6), 2, 1, "neumann"),
        ((2, 3), 2, 0, "periodic"),
        ((1, 4), 1, 0, "neumann"),
    ],
)
def test_each_line_is_solved_exactly(shape, count, axis, kind):
    operator = stencil(shape, count, axis, (kind,) * len(shape), across=False)
    assert_inverse(lines(axis), operator, state(shape, count, 1))


@pytest.mark.parametrize(
    "shape, count, axis, kinds",
    [
        ((7, 6), 3, 0, ("neumann", "neumann")),
        ((6, 5), 2, 1, ("dirichlet", "neumann")),
        ((5, 7), 2, 0, ("periodic", "periodic")),
        ((4, 6, 5), 2, 0, ("neumann", "periodic", "dirichlet-neumann")),
        ((9,), 2, 0, ("neumann",)),
    ],
)
def test_modes_invert_what_varies_along_the_lines_only(shape, count, axis, kinds):
    operator = stencil(shape, count, axis, kinds)
    assert_inverse(
        lambda op: TransformLineInverse(op, axis, kinds), operator, state(shape, count, 1)
    )


@pytest.mark.thorough
@pytest.mark.parametrize(
    "axis, kinds", [(0, ("neumann", "periodic")), (1, ("dirichlet", "neumann"))]
)
def test_the_transpose_is_one_where_coefficients_vary_everywhere(axis, kinds):
    random = np.random.default_rng(3)
    operator = jax.tree.map(
        lambda part: part * jnp.asarray(random.uniform(0.5, 1.5, part.shape)),
        stencil((6, 5), 3, axis, kinds),
    )
    v, w = state((6, 5), 3, 4), state((6, 5), 3, 5)

    @jax.jit
    def both(operator):
        each = TransformLineInverse(operator, axis, kinds)
        return dot(w, each.apply(v)), dot(each.transpose().apply(w), v)

    one, other = both(operator)
    assert float(one) == pytest.approx(float(other), rel=1e-12)


@pytest.mark.thorough
def test_fields_of_very_different_units():
    """Pivots are compared within rows and columns of like size."""
    units = jnp.asarray([1e-9, 1.0, 1e7])
    operator = stencil((7, 6), 3, 0, ("neumann", "neumann"))
    scaled = jax.tree.map(
        lambda part: part * units[:, None, None, None] ** 2 / units[None, :, None, None], operator
    )
    v = state((7, 6), 3, 1)
    rhs = scaled({name: v[name] * u for name, u in zip(FIELDS, units, strict=True)})
    found = TransformLineInverse(scaled, 0, ("neumann", "neumann")).apply(rhs)
    for name, unit in zip(FIELDS, units, strict=True):
        np.testing.assert_allclose(found[name] / unit, v[name], rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_few_iterations_where_coefficients_vary_mildly_across_the_lines():
    """And no more of them on a finer grid, at a thousand times the exchange."""

    def iterations(cells):
        shape, strong = (cells, cells), 1e3 * (cells / 8) ** 2
        random = np.random.default_rng(0)
        factor = jnp.asarray(random.uniform(0.8, 1.25, (1, 1, *shape)))
        x = 10.0 ** jnp.linspace(-3, 0, cells)[:, None]

        def laplacian(axis):
            face = jnp.minimum(factor * x, jnp.roll(factor * x, -1, axis + 2)) * strong
            face = face.at[(..., -1) if axis else (..., -1, slice(None))].set(0)
            return jnp.roll(face, 1, axis + 2), face

        eye = jnp.eye(2).reshape(2, 2, 1, 1)
        sides = tuple((-eye * low, -eye * up) for low, up in map(laplacian, (0, 1)))
        reaction = jnp.asarray([[2.0, 1.9], [1.9, 2.0]]).reshape(2, 2, 1, 1)
        centre = 50 * reaction - sum(low + up for low, up in sides)
        operator = BlockStencil(centre, sides, structure(2))
        preconditioner = jax.jit(TransformLineInverse, static_argnums=(1, 2))(
            operator, 0, ("neumann", "neumann")
        )
        rhs = state(shape, 2, 1)
        solve = jax.jit(lambda op, p, b: BiCGStab(1e-8).solve(op, b, None, p)[1])
        outcome = solve(operator, preconditioner, rhs)
        assert bool(outcome.converged)
        return int(outcome.iterations)

    counts = [iterations(cells) for cells in (8, 24)]
    assert counts[0] <= 8 and counts[1] <= counts[0] + 3


def test_what_is_refused():
    operator = stencil((4, 5), 2, 0, ("neumann", "neumann"))
    with pytest.raises(ValueError, match=r"axis=2.*0...1"):
        TransformLineInverse(operator, 2, ("neumann", "neumann"))
    with pytest.raises(ValueError, match="for each axis"):
        TransformLineInverse(operator, 0, ("neumann",))
    with pytest.raises(ValueError, match="'wall'"):
        TransformLineInverse(operator, 0, ("neumann", "wall"))
    with pytest.raises(ValueError, match=r"axis=-1"):
        BlockLineInverse(operator.centre, operator.centre, operator.centre, -1)
    with pytest.raises(ValueError, match="one shape"):
        BlockLineInverse(operator.centre[:1], operator.centre, operator.centre, 0)
    with pytest.raises(ValueError, match="3 leaves.*for 2"):
        TransformLineInverse(operator, 0, ("neumann", "neumann")).apply(state((4, 5), 3))


@pytest.mark.thorough
def test_single_precision_stays_single():
    operator = stencil((6, 5), 2, 0, ("neumann", "periodic"))
    operator = jax.tree.map(lambda a: a.astype(jnp.float32), operator)
    v = jax.tree.map(lambda a: a.astype(jnp.float32), state((6, 5), 2, 1))
    preconditioner = TransformLineInverse(operator, 0, ("neumann", "periodic"))
    found = preconditioner.apply(operator(v))
    assert {leaf.dtype for leaf in found.values()} == {jnp.dtype("float32")}
    np.testing.assert_allclose(found["a"], v["a"], rtol=1e-4, atol=1e-5)
