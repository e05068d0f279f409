"""What inverts the mean of coefficients: as good on a fine grid as on a coarse one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impindiff.grid import Grid
from impindiff.linear import BiCGStab
from impindiff.precondition import Fourier, LinearisedStep, TransformLine
from impindiff.systems import Field, System
from impindiff.terms import Diffusion, Dirichlet


def iterations(cells: int, make) -> int:
    """Of one stiff step, with a coefficient that varies by a factor of four and not at the ends."""
    grid = Grid.uniform((cells, cells), ((0, 1), (0, 1)))
    x, y = grid.centres()
    diffusivity = np.exp(np.log(2) * np.sin(6 * x) * np.cos(5 * y))
    ends = {"x": Dirichlet(0.0), "y": Dirichlet(0.0)}
    system = System(grid, {"u": Field([Diffusion(diffusivity)], ends)})
    tendency = system.prepare(jnp.dtype("float64")).at(jnp.zeros(()))
    rhs = {"u": jnp.asarray(np.exp(-20 * ((x - 0.5) ** 2 + (y - 0.4) ** 2)))}
    weight = jnp.asarray(0.1)

    @jax.jit
    def solve(rhs):
        def operator(u):
            return {"u": u["u"] - weight * tendency(u)["u"]}

        inverse = make.make(LinearisedStep(tendency, weight, rhs))
        return BiCGStab(1e-6).solve(operator, rhs, None, inverse)[1]

    return int(solve(rhs).iterations)


@pytest.mark.thorough
@pytest.mark.parametrize("make", [Fourier(), TransformLine(0), TransformLine(1)])
def test_iterations_do_not_grow_with_the_grid(make):
    coarse, fine = iterations(16, make), iterations(64, make)
    assert coarse <= 10
    assert fine <= coarse + 2
