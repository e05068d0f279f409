"""Direct solution of systems in which a cell of a line meets its two neighbours only.

Long lines are halved by cyclic reduction: the odd cells are eliminated at once, and what remains
is a system of the same kind for the even ones. That runs over whole arrays, where elimination
cell by cell would wait for each division. It stays periodic by itself; only the short line at the
end needs the two corner entries to be treated.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Cells = Float[Array, "... cells"]
CellBlocks = Float[Array, "... cells fields fields"]
Lines = tuple[Array, Array, Array, Array]

# Below this, elimination cell by cell is as fast as more halving, and it compiles sooner.
_SHORT = 64
# CellBlocks beyond this are left to LAPACK: an elimination written out grows with their cube.
_LARGEST_WRITTEN_OUT = 4


def solve_tridiagonal(lower: Cells, diagonal: Cells, upper: Cells, rhs: Cells) -> Cells:
    r"""Solve $l_i x_{i-1} + d_i x_i + r_i x_{i+1} = b_i$, where indices wrap around.

    Reduction does not pivot: for diagonally dominant systems and others with a positive definite
    symmetric part, as implicit steps give. For all others use `solve_tridiagonal_pivoted`, at about
    three times the cost. A singular system gives numbers that are not finite.

    Args:
        lower: $l$; `lower[0]` is the corner that makes a line periodic, zero where it is not.
        diagonal: $d$.
        upper: $r$; `upper[-1]` is the other corner.
        rhs: $b$.

    Shapes: all (..., cells); leading axes are batches, broadcast together.
    Reference: R. W. Hockney, J. ACM 12 (1965) 95.
    """
    system = _broadcast(lower, diagonal, upper, rhs)
    size = system[0].shape[-1]
    if size <= _SHORT:
        return solve_tridiagonal_pivoted(*system)
    lower, diagonal, upper, rhs = system
    inverse = 1 / diagonal[..., 1::2]
    odd = tuple(part[..., 1::2] * inverse for part in (lower, upper, rhs))
    below, above = _neighbours_of_even(odd, size, jnp.ones(1))
    even_lower, even_upper = lower[..., 0::2], upper[..., 0::2]
    even = solve_tridiagonal(
        -even_lower * below[0],
        diagonal[..., 0::2] - even_lower * below[1] - even_upper * above[0],
        -even_upper * above[1],
        rhs[..., 0::2] - even_lower * below[2] - even_upper * above[2],
    )
    count = size // 2
    after = jnp.roll(even, -1, -1)[..., :count]
    return _interleave(even, odd[2] - odd[0] * even[..., :count] - odd[1] * after)


def solve_tridiagonal_pivoted(lower: Cells, diagonal: Cells, upper: Cells, rhs: Cells) -> Cells:
    """The same system by elimination with partial pivoting, and Sherman-Morrison's correction.

    See `solve_tridiagonal` for arguments and shapes.
    """
    lower, diagonal, upper, rhs = _broadcast(lower, diagonal, upper, rhs)
    size = diagonal.shape[-1]
    if size == 1:
        return rhs / (lower + diagonal + upper)
    if size == 2:
        # Both neighbours are the one other cell: there are no corners, only two couplings.
        both, zero = lower + upper, jnp.zeros_like(lower[..., :1])
        lower = jnp.concatenate([zero, both[..., 1:]], -1)
        upper = jnp.concatenate([both[..., :1], zero], -1)
    corner_lower, corner_upper, first = lower[..., 0], upper[..., -1], diagonal[..., 0]
    # A = T + u v^T with u = (g, 0, ..., upper[-1]) and v = (1, 0, ..., lower[0] / g). With g of the
    # size of its row, and of the sign opposite to the diagonal, T is as dominant as A is. Without
    # corners g is zero, and T is A.
    size_of_row = jnp.maximum(
        jnp.abs(first), jnp.maximum(jnp.abs(corner_lower), abs(upper[..., 0]))
    )
    gamma = jnp.where(first < 0, size_of_row, -size_of_row)
    gamma = jnp.where((corner_lower == 0) & (corner_upper == 0), 0, gamma)
    ratio = jnp.where(gamma == 0, 0, corner_lower / jnp.where(gamma == 0, 1, gamma))
    diagonal = diagonal.at[..., 0].add(-gamma).at[..., -1].add(-ratio * corner_upper)
    column = jnp.zeros_like(rhs).at[..., 0].set(gamma).at[..., -1].set(corner_upper)
    found = jax.lax.linalg.tridiagonal_solve(
        lower.at[..., 0].set(0),
        diagonal,
        upper.at[..., -1].set(0),
        jnp.stack([rhs, column], -1),
    )
    solution, response = found[..., 0], found[..., 1]
    weight = (solution[..., 0] + ratio * solution[..., -1]) / (
        1 + response[..., 0] + ratio * response[..., -1]
    )
    return solution - weight[..., None] * response


def solve_block_tridiagonal(
    lower: CellBlocks,
    diagonal: CellBlocks,
    upper: CellBlocks,
    rhs: Float[Array, "... cells fields"],
) -> Float[Array, "... cells fields"]:
    r"""Solve $L_i x_{i-1} + D_i x_i + R_i x_{i+1} = b_i$ with a small matrix at each place.

    Pivots inside the blocks, not between them. For one field `solve_tridiagonal` is faster. A
    singular system gives numbers that are not finite.

    Args:
        lower: $L$, blocks [row field, column field]; the first closes the ring, or is zero.
        diagonal: $D$.
        upper: $R$; the last closes the ring, or is zero.
        rhs: $b$.

    Shapes: (..., cells, fields, fields), the right-hand side (..., cells, fields); leading axes are
        batches, the same for all.
    Reference: R. W. Hockney, J. ACM 12 (1965) 95; G. H. Golub & C. F. Van Loan, Matrix
        Computations, section 4.5.
    """
    # Cells last: every operation then runs along the line, however small the blocks are.
    below, own, above = (jnp.moveaxis(part, (-2, -1), (0, 1)) for part in (lower, diagonal, upper))
    found = _solve_blocks(below, own, above, jnp.moveaxis(rhs, -1, 0))
    return jnp.moveaxis(found, 0, -1)


def _solve_blocks(lower: Array, diagonal: Array, upper: Array, rhs: Array) -> Array:
    fields, size = diagonal.shape[0], diagonal.shape[-1]
    if size <= _SHORT or fields > _LARGEST_WRITTEN_OUT:
        return _eliminate_in_order(lower, diagonal, upper, rhs)
    right = jnp.concatenate([lower, upper, rhs[:, None]], 1)[..., 1::2]
    solved = _small_solve(diagonal[..., 1::2], right)
    odd = (solved[:, :fields], solved[:, fields:-1], solved[:, -1:])
    one = jnp.eye(fields).reshape(fields, fields, *[1] * (diagonal.ndim - 2))
    below, above = _neighbours_of_even(odd, size, one)
    even_lower, even_upper = lower[..., 0::2], upper[..., 0::2]
    even = _solve_blocks(
        -_product(even_lower, below[0]),
        diagonal[..., 0::2] - _product(even_lower, below[1]) - _product(even_upper, above[0]),
        -_product(even_upper, above[1]),
        rhs[..., 0::2] - (_product(even_lower, below[2]) + _product(even_upper, above[2]))[:, 0],
    )
    before = even[..., : size // 2]
    after = jnp.roll(even, -1, -1)[..., : size // 2]
    between = odd[2] - _product(odd[0], before[:, None]) - _product(odd[1], after[:, None])
    return _interleave(even, between[:, 0])


def _eliminate_in_order(lower: Array, diagonal: Array, upper: Array, rhs: Array) -> Array:
    """Cell by cell, but for the last: all others are affine in it, and it closes the ring."""
    fields, size = diagonal.shape[0], diagonal.shape[-1]
    if size == 1:
        return _small_solve(lower + diagonal + upper, rhs[:, None])[:, 0, ...]
    lower, diagonal, upper, rhs = (
        jnp.moveaxis(part, -1, 0) for part in (lower, diagonal, upper, rhs[:, None])
    )
    to_last = jnp.zeros_like(lower[:-1]).at[0].set(lower[0]).at[-1].add(upper[-2])
    right = jnp.concatenate([upper[:-1].at[-1].set(0), to_last, rhs[:-1]], 2)

    def forward(before, row):
        lower, diagonal, right = row
        filled = _product(lower, before)
        reduced = right.at[:, fields:].add(-filled[:, fields:])
        solved = _small_solve(diagonal - filled[:, :fields], reduced)
        return solved, solved

    rows = (lower[:-1].at[0].set(0), diagonal[:-1], right)
    _, solved = jax.lax.scan(forward, jnp.zeros_like(right[0]), rows)

    def backward(after, row):
        here = row[:, fields:] - _product(row[:, :fields], after)
        return here, here

    nothing = jnp.zeros_like(right[0, :, fields:])
    first, affine = jax.lax.scan(backward, nothing, solved, reverse=True)
    seen = _product(upper[-1], first) + _product(lower[-1], affine[-1])
    last = _small_solve(diagonal[-1] - seen[:, :fields], rhs[-1] - seen[:, fields:])
    others = affine[:, :, fields:] - jax.vmap(_product, (0, None))(affine[:, :, :fields], last)
    return jnp.moveaxis(jnp.concatenate([others, last[None]])[:, :, 0], 0, -1)


def _small_solve(matrix: Array, right: Array) -> Array:
    """Gauss-Jordan with partial pivoting in all cells at once; `matrix` is (m, m, ...)."""
    size = matrix.shape[0]
    if size > _LARGEST_WRITTEN_OUT:
        front = (jnp.moveaxis(part, (0, 1), (-2, -1)) for part in (matrix, right))
        return jnp.moveaxis(jnp.linalg.solve(*front), (-2, -1), (0, 1))
    rows = [jnp.concatenate([matrix[i], right[i]]) for i in range(size)]
    for k in range(size):
        for i in range(k + 1, size):
            larger = jnp.abs(rows[i][0]) > jnp.abs(rows[k][0])
            rows[k], rows[i] = (
                jnp.where(larger, rows[i], rows[k]),
                jnp.where(larger, rows[k], rows[i]),
            )
        # Columns that are done with are dropped: the leading one is always the next pivot's.
        pivot = rows[k][1:] / rows[k][0]
        rows = [pivot if i == k else rows[i][1:] - rows[i][0] * pivot for i in range(size)]
    return jnp.stack(rows)


def _product(left: Array, right: Array) -> Array:
    """Products of small matrices, (m, k, ...) times (k, w, ...), with no call for each."""
    return jnp.sum(left[:, :, None] * right[None], 1)


def _neighbours_of_even(odd: tuple[Array, ...], size: int, one: Array) -> tuple:
    """The rows of the odd cells below and above each even cell.

    Around a ring of odd length the last and the first cell are both even. Between them stands a
    made-up row, which says that what lies there is the cell on its other side.
    """
    if size % 2 == 0:
        return tuple(jnp.roll(part, 1, -1) for part in odd), odd

    def made_up(*values):
        return [
            jnp.broadcast_to(value, (*part.shape[:-1], 1)).astype(part.dtype)
            for value, part in zip(values, odd, strict=True)
        ]

    zero = jnp.zeros(1)
    below, above = made_up(-one, zero, zero), made_up(zero, -one, zero)
    return (
        tuple(jnp.concatenate(pair, -1) for pair in zip(below, odd, strict=True)),
        tuple(jnp.concatenate(pair, -1) for pair in zip(odd, above, strict=True)),
    )


def _interleave(even: Array, odd: Array) -> Array:
    size = even.shape[-1] + odd.shape[-1]
    if size % 2:
        odd = jnp.concatenate([odd, jnp.zeros_like(even[..., :1])], -1)
    return jnp.stack([even, odd], -1).reshape(*even.shape[:-1], -1)[..., :size]


def _broadcast(*parts: Array) -> Lines:
    shape = jnp.broadcast_shapes(*(part.shape for part in parts))
    lower, diagonal, upper, rhs = (jnp.broadcast_to(part, shape) for part in parts)
    return lower, diagonal, upper, rhs
