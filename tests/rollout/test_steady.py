"""Steady states: closed forms, other solvers' answers, gradients, and what has no steady state."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from gradients import taylor_rates

import impindiff as ipd
from impindiff import InputError, NumericsError
from impindiff.latents import Closure
from impindiff.linear import Result

RNG = np.random.default_rng(0)


def axis(cells: int, name: str = "x") -> ipd.Axis:
    return ipd.Axis(name, 0.0, 1.0, cells)


def line(cells: int, terms: list, ends: Any, **field: Any) -> ipd.System:
    return ipd.System(ipd.Grid([axis(cells)]), {"T": ipd.Field(terms, {"x": ends}, **field)})


def centres(cells: int) -> np.ndarray:
    return (np.arange(cells) + 0.5) / cells


def order(error: Any, cells: int) -> float:
    return float(np.log2(error(cells) / error(2 * cells)))


def test_heat_with_a_source_is_of_order_two():
    def error(cells: int) -> float:
        source = ipd.Source(lambda x: jnp.pi**2 * jnp.sin(jnp.pi * x))
        system = line(cells, [ipd.Diffusion(1.0), source], ipd.Dirichlet(1.0))
        found = ipd.steady(system)
        assert int(found.outcome.steps) == 1 and int(found.pseudo_steps) == 0
        return float(np.abs(found.state["T"] - 1 - np.sin(np.pi * centres(cells))).max())

    assert order(error, 20) == pytest.approx(2, abs=0.1)


def darcy_matrix(k: np.ndarray) -> scipy.sparse.csr_matrix:
    """The finite-volume matrix of $-\\nabla\\cdot(k\\nabla p)$, $p = 0$ on all sides."""
    (nx, ny), h = k.shape, 1 / k.shape[0]
    number = np.arange(nx * ny).reshape(nx, ny)
    matrix = scipy.sparse.lil_matrix((nx * ny, nx * ny))
    for ax in (0, 1):
        cells, values = np.moveaxis(number, ax, 0), np.moveaxis(k, ax, 0)
        between = 2 * values[1:] * values[:-1] / (values[1:] + values[:-1]) / h**2
        for one, other, rate in zip(
            cells[:-1].ravel(), cells[1:].ravel(), between.ravel(), strict=True
        ):
            matrix[one, one] += rate
            matrix[other, other] += rate
            matrix[one, other] -= rate
            matrix[other, one] -= rate
        for end in (0, -1):
            for cell, value in zip(cells[end], values[end], strict=True):
                matrix[cell, cell] += 2 * value / h**2
    return matrix.tocsr()


@pytest.mark.parametrize("storage", [None, 0])
def test_darcy_is_the_answer_of_a_sparse_solver(storage: Any):
    """With storage or without: then the whole system is algebraic."""
    k = np.exp(RNG.normal(size=(24, 24)))
    wells = RNG.normal(size=k.shape)
    grid = ipd.Grid([axis(24), axis(24, "y")])
    ends = dict.fromkeys(("x", "y"), ipd.Dirichlet(0.0))
    terms = [ipd.Diffusion(jnp.asarray(k)), ipd.Source(jnp.asarray(wells))]
    system = ipd.System(grid, {"p": ipd.Field(terms, ends, storage=storage)})
    exact = scipy.sparse.linalg.spsolve(darcy_matrix(k).tocsc(), wells.ravel()).reshape(k.shape)
    found = ipd.steady(system)
    np.testing.assert_allclose(found.state["p"], exact, atol=1e-8 * np.abs(exact).max())
    assert int(found.outcome.steps) == 1


def test_a_conductivity_that_grows_with_temperature_follows_kirchhoff():
    """$(1 + T)\\,T' $ is the same everywhere, so that $T + T^2 / 2$ is linear in $x$."""

    def error(cells: int) -> float:
        ends = (ipd.Dirichlet(0.0), ipd.Dirichlet(2.0))
        system = line(cells, [ipd.Diffusion(lambda T: 1 + T)], ends)
        exact = np.sqrt(1 + 8 * centres(cells)) - 1
        return float(np.abs(ipd.steady(system).state["T"] - exact).max())

    assert order(error, 20) == pytest.approx(2, abs=0.15)


def test_heat_through_a_pipe_falls_with_the_logarithm_of_the_radius():
    def error(cells: int) -> float:
        grid = ipd.Grid([ipd.Axis("r", 1.0, 4.0, cells, kind="cylindrical")])
        ends = {"r": (ipd.Dirichlet(290.0), ipd.Dirichlet(390.0))}
        system = ipd.System(grid, {"T": ipd.Field([ipd.Diffusion(0.3)], ends)})
        r = grid.axes[0].centres
        exact = 290 + 100 * np.log(r) / np.log(4)
        return float(np.abs(ipd.steady(system).state["T"] - exact).max())

    assert order(error, 16) == pytest.approx(2, abs=0.15)
