"""The round-off of a tendency is that of differences, whatever is added to the field."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import impindiff as ipd

OFFSET = 290.0


def of_state(u):
    return 3 * (1 + (u - OFFSET) ** 2)


def wind_at(t):
    return 0.37 + t


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize("shape", [(6,), (41,), (7, 5), (41, 33)], ids=str)
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    "make, ends",
    [
        (lambda axes: [ipd.Diffusion(of_state)], ipd.NoFlux()),
        (lambda axes: [ipd.Diffusion(of_state), ipd.Advection(np.full(axes, 0.37))], None),
        (lambda axes: [ipd.Diffusion(lambda x: 3 * (1 + x**2))], ipd.NoFlux()),
        (lambda axes: [ipd.Diffusion(of_state)], ipd.Robin(3.0, OFFSET)),
        (lambda axes: [ipd.Advection(lambda t: [wind_at(t)] * axes)], ipd.Outflow()),
        (lambda axes: [ipd.Advection(np.full(axes, 0.37), scheme="upwind")], None),
    ],
    ids=["D(u)", "D(u) and wind", "D(x)", "D(u), exchange", "wind, open ends", "upwind"],
)
def test_an_offset_leaves_no_trace_in_single_precision(shape, compiled, make, ends):
    """A compiler that contracts products and sums makes round-off of what should cancel."""
    axes = len(shape)
    grid = ipd.Grid.uniform(shape, ((0, 1),) * axes, periodic=ends is None)
    boundaries: Any = None if ends is None else dict.fromkeys(grid.names, ends)
    random = np.random.default_rng(0)
    field = (OFFSET + 0.5 + 1e-4 * random.standard_normal(shape)).astype(np.float32)

    def rate(dtype: str) -> np.ndarray:
        system = ipd.System(grid, {"u": ipd.Field(make(axes), boundaries)})
        tendency = system.prepare(jnp.dtype(dtype)).at(jnp.zeros((), dtype))

        def of(u):
            return tendency({"u": u})["u"]

        return np.asarray((jax.jit(of) if compiled else of)(jnp.asarray(field, dtype)))

    exact = rate("float64")
    # The distance from the offset is known to a unit in its seventh digit, and no better.
    assert np.abs(rate("float32") - exact).max() <= 2e-4 * np.abs(exact).max()
