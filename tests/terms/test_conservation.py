"""What leaves a cell enters its neighbour: the total changes by round-off and nothing else."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import final_classes
from smooth import box, matrix_of, wave, winds

from impindiff import Supply
from impindiff.grid import Grid
from impindiff.terms import (
    AbstractSource,
    AbstractStateTerm,
    AbstractTerm,
    AbstractTwoPointFlux,
    Advection,
    Diffusion,
    Source,
)

GRIDS = [box(13), box(5, 2), box(4, 3, 5)]


def draw(grid: Grid, seed: int) -> jax.Array:
    """Rough, of both signs, over six orders of magnitude."""
    random = np.random.default_rng(seed)
    return jnp.asarray(random.normal(size=grid.shape) * 10 ** random.uniform(-3, 3, grid.shape))


class Conservative(NamedTuple):
    name: str

    def on(self, grid: Grid) -> AbstractTwoPointFlux:
        velocity = jnp.stack([draw(grid, 10 + k) for k in range(grid.num_axes)])
        return {
            "upwind": Advection(velocity, "upwind"),
            "central": Advection(velocity, "central"),
            "uniform wind": Advection(velocity[(slice(None), *[0] * grid.num_axes)]),
            "diffusion": Diffusion(0.3),
            "variable diffusion": Diffusion(jnp.abs(draw(grid, 20))),
            "diffusion beside walls": Diffusion(jnp.maximum(draw(grid, 20), 0)),
            "diffusion, arithmetic mean": Diffusion(jnp.abs(draw(grid, 20)), "arithmetic"),
        }[self.name]


CONSERVATIVE = [
    Conservative(name)
    for name in (
        "upwind",
        "central",
        "uniform wind",
        "diffusion",
        "variable diffusion",
        "diffusion beside walls",
        "diffusion, arithmetic mean",
    )
]


def test_every_term_is_tested():
    assert final_classes(AbstractTwoPointFlux) == {type(c.on(GRIDS[0])) for c in CONSERVATIVE}
    others = final_classes(AbstractTerm) - final_classes(AbstractTwoPointFlux)
    # State terms are for users to write; the package has none, but for what goes into balances,
    # which is tested there.
    assert others - {AbstractStateTerm} == {Source, Supply}
    assert issubclass(Source, AbstractSource)


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: str(grid.shape))
@pytest.mark.parametrize("term", CONSERVATIVE, ids=lambda term: term.name)
class TestConservative:
    @pytest.mark.many
    def test_the_total_is_conserved(self, term: Conservative, grid: Grid):
        stencil = term.on(grid).stencil(grid)
        exchanged = jax.tree.map(jnp.abs, stencil)(jnp.abs(draw(grid, 1))).sum()
        total = stencil(draw(grid, 1)).sum()
        assert np.isfinite(exchanged) and np.isfinite(total)
        assert abs(float(total)) <= 2 * np.finfo(float).eps * float(exchanged)

    @pytest.mark.many
    def test_the_stencil_is_the_divergence_of_the_face_fluxes(self, term: Conservative, grid: Grid):
        flux_term, field = term.on(grid), np.asarray(draw(grid, 1))
        rate = np.zeros(grid.shape)
        for axis, width in enumerate(grid.cell_widths):
            below, above = (
                np.broadcast_to(c, grid.shape) for c in flux_term.face_coefficients(grid, axis)
            )
            flux = below * field + above * np.roll(field, -1, axis)
            rate -= (flux - np.roll(flux, 1, axis)) / width
        found = flux_term.stencil(grid)(jnp.asarray(field))
        np.testing.assert_allclose(found, rate, rtol=1e-12, atol=1e-12 * np.abs(rate).max())

    @pytest.mark.many
    def test_single_precision_is_kept(self, term: Conservative, grid: Grid):
        single = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), term.on(grid))
        stencil = single.stencil(grid)
        assert {leaf.dtype for leaf in jax.tree.leaves(stencil)} == {jnp.dtype(jnp.float32)}
        assert stencil(jnp.ones(grid.shape, jnp.float32)).dtype == jnp.float32


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: str(grid.shape))
def test_a_sum_of_stencils_is_the_stencil_of_the_sum(grid: Grid):
    advection = Advection(winds(grid), "central").stencil(grid)
    diffusion = Diffusion(0.1).stencil(grid)
    field = draw(grid, 1)
    both = (advection + diffusion)(field)
    apart = advection(field) + diffusion(field)
    np.testing.assert_allclose(both, apart, rtol=1e-12, atol=1e-10)


def test_a_number_leaves_the_precision_to_the_field():
    grid = box(5, 4)
    for dtype in (jnp.float32, jnp.float64):
        assert Diffusion(0.1).stencil(grid)(wave(grid).astype(dtype)).dtype == dtype


@pytest.mark.thorough
def test_a_stencil_is_a_linear_map_of_face_neighbours():
    grid = box(5, 4)
    stencil = Advection(winds(grid), "upwind").stencil(grid) + Diffusion(wave(grid)).stencil(grid)
    matrix = matrix_of(stencil, grid.shape)
    np.testing.assert_allclose(
        (matrix @ np.asarray(wave(grid)).ravel()).reshape(grid.shape),
        stencil(wave(grid)),
        rtol=1e-12,
    )
    assert (np.count_nonzero(matrix, axis=1) <= 5).all()
    np.testing.assert_allclose(matrix.sum(axis=0), 0, atol=1e-11)
