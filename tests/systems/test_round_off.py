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


@pytest.mark.parametrize("axes", ["bounded", "periodic"])
def test_a_constant_in_the_field_leaves_no_trace_in_the_gradient(axes: str):
    r"""That of $\sum w\,u_1$ after one explicit step: by hand, in double precision."""
    num, dt, offset = 24, 1e-4, 1e5
    line = ipd.Grid([ipd.Axis("x", 0.0, 1.0, num, periodic=axes == "periodic")])
    (x,) = line.centres()
    bumps = np.round(2**6 * np.sin(2 * np.pi * x + 0.3)) / 2**6  # exact beside the offset
    weights = np.cos(2 * np.pi * x) / num
    ends = {} if axes == "periodic" else {"x": (ipd.Dirichlet(offset), ipd.Robin(3.0, offset))}
    times = ipd.TimeGrid.build(0.0, [dt], dt)

    def loss(k):
        rod = ipd.System(line, {"T": ipd.Field([ipd.Diffusion(k, "arithmetic")], ends)})
        start = {"T": jnp.asarray(bumps + offset, jnp.float32)}
        found = ipd.simulate(rod, start, times, ipd.steppers.ForwardEuler()).states["T"][-1]
        return jnp.sum(jnp.asarray(weights, jnp.float32) * (found - offset))

    found = jax.grad(loss)(jnp.ones(num, jnp.float32))

    def by_hand(k):
        means = (k + np.roll(k, -1)) / 2
        up = means * (np.roll(bumps, -1) - bumps) * num
        if axes != "periodic":
            # At the ends the diffusivity is extrapolated, half a cell beyond the centre.
            first, last = 1.5 * k[0] - 0.5 * k[1], 1.5 * k[-1] - 0.5 * k[-2]
            h = 3.0 / (1 + 3.0 / (2 * num * last))
            up[-1] = -h * bumps[-1]
        down = np.roll(up, 1)
        if axes != "periodic":
            down[0] = 2 * num * first * bumps[0]
        return dt * num * np.sum(weights * (up - down))

    step = 1e-4 * np.eye(num)
    wanted = [(by_hand(1 + each) - by_hand(1 - each)) / 2e-4 for each in step]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("form", ["conservative", "advective"])
@pytest.mark.parametrize("coordinates", ["cartesian", "cylindrical"])
def test_rates_by_differences_by_faces_and_by_the_stencil_are_one_map(form, coordinates):
    rng = np.random.default_rng(0)
    names = ("r", "z") if coordinates == "cylindrical" else ("x", "y")
    axes = [
        ipd.Axis.graded(names[0], 0.0, 1.0, 5, ratio=3.0),
        ipd.Axis(names[1], 0.0, 2.0, 4, periodic=form == "advective"),
    ]
    solid = np.zeros((5, 4), bool)
    solid[2, 1] = coordinates == "cartesian"
    plane = ipd.Grid(axes, coordinates, solid=solid)
    terms = [
        ipd.Advection(np.stack([rng.normal(size=plane.shape)] * 2), "central", form),
        ipd.Diffusion(rng.uniform(1.0, 2.0, plane.shape)),
    ]
    upper, ring = ipd.Robin(0.5, 2.0), form == "advective"
    ends = {names[0]: upper if coordinates == "cylindrical" else (ipd.Dirichlet(1.0), upper)}
    ends |= {} if ring else {names[1]: (ipd.Inflow(2.0), ipd.Outflow())}
    system = ipd.System(plane, {"c": ipd.Field(terms, ends)})
    tendency: Any = system.prepare(jnp.dtype("float64")).at(jnp.asarray(0.0))
    fluxes = tendency.fluxes["c"]
    field = jnp.asarray(rng.normal(size=plane.shape))
    np.testing.assert_allclose(fluxes.by_faces(field), fluxes.rate(field), atol=1e-12)
    np.testing.assert_allclose(fluxes.by_stencil(field), fluxes.rate(field), atol=1e-12)
