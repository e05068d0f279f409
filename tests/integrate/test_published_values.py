"""Values that others published for stiff and for steepening problems, and their sensitivities."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from impindiff.implicit import Newton
from impindiff.integrate import (
    ESDIRK5,
    AbstractDynamics,
    AbstractTendency,
    BackwardEuler,
    CrankNicolson,
)
from impindiff.linear import GMRES, DenseLU
from impindiff.rollout import StepControl, TimeGrid, simulate, simulate_controlled

DIRECT = Newton(DenseLU(1e-13), DenseLU(1e-13), rtol=1e-14, max_steps=20)


class Equations(AbstractDynamics, AbstractTendency):
    """What the systems of this file share: nonlinear, and the same at all times."""

    is_affine = False
    is_steady = True

    def at(self, time):
        return self


class VanDerPol(Equations):
    mu: Any

    def __call__(self, state):
        y, z = state["y"], state["z"]
        return {"y": z, "z": self.mu * ((1 - y**2) * z - y)}


def on_the_slow_manifold(mu):
    return jnp.array(2.0), -2 / 3 + 10 / (81 * mu) - 292 / (2187 * mu**2)


class TestVanDerPol:
    """PETSc's tutorial ex20adj: mu = 1e5, Crank-Nicolson steps of 1e-3 to t = 0.5."""

    MU = jnp.array(1e5)

    @staticmethod
    def end(y, z, mu):
        time_grid = TimeGrid.build(0.0, 0.5, 1e-3)
        found = simulate(VanDerPol(mu), {"y": y, "z": z}, time_grid, CrankNicolson(DIRECT))
        return jnp.stack([found.states["y"][-1], found.states["z"][-1]])

    @pytest.mark.thorough
    def test_sensitivities_to_the_start(self):
        y, z = on_the_slow_manifold(self.MU)
        of_y, of_z = jax.jit(jax.jacrev(self.end, (0, 1)))(y, z, self.MU)
        np.testing.assert_allclose(of_y, [1.54557, 2.28429], rtol=1e-5)
        np.testing.assert_allclose(of_z, [4.80704e-6, 2.44399e-4], rtol=1e-5)

    @pytest.mark.thorough
    def test_sensitivity_to_the_stiffness_that_the_start_depends_on_too(self):
        of_mu = jax.jit(jax.jacrev(lambda mu: self.end(*on_the_slow_manifold(mu), mu)))(self.MU)
        np.testing.assert_allclose(of_mu, [-2.13118e-11, -1.29769e-10], rtol=1e-5)

    @pytest.mark.thorough
    def test_sensitivities_of_steps_that_follow_their_error(self):
        """Published, except for that of z: Crank-Nicolson's is 6e-5 off the exact one.

        That is from the variational equations, by scipy's Radau at a tolerance of 1e-11, as are
        those to the start of z, which decays within 3e-6: Crank-Nicolson does not damp it, and
        steps resolve it because they end at times within.
        """
        y, z = on_the_slow_manifold(self.MU)
        times = [*np.linspace(0.0, 4e-5, 41), 0.5]
        found = simulate_controlled(
            VanDerPol(self.MU), {"y": y, "z": z}, times, ESDIRK5(), StepControl(1e-8)
        )
        assert found.time_grid.num_steps < 300

        def end(y, z, mu):
            start = {"y": y, "z": z}
            again = simulate(VanDerPol(mu), start, found.time_grid, ESDIRK5())
            return jnp.stack([again.states["y"][-1], again.states["z"][-1]])

        def of_mu(y, mu):
            return end(y, on_the_slow_manifold(mu)[1], mu)

        of_y, of_z = jax.jit(jax.jacrev(end, (0, 1)))(y, z, self.MU)
        np.testing.assert_allclose(of_y, [1.54557, 2.28442099], rtol=1e-5)
        np.testing.assert_allclose(of_z, [5.1519058e-6, 7.6147451e-6], rtol=1e-4)
        np.testing.assert_allclose(
            jax.jit(jax.jacrev(of_mu, 1))(y, self.MU), [-2.13118e-11, -1.29769e-10], rtol=1e-5
        )

    @pytest.mark.thorough
    def test_end_values_at_the_order_of_the_scheme(self):
        """Beside scipy's Radau at a tolerance of 1e-12."""
        start, mu = [float(v) for v in on_the_slow_manifold(self.MU)], float(self.MU)
        reference = solve_ivp(
            lambda t, u: [u[1], mu * ((1 - u[0] ** 2) * u[1] - u[0])],
            (0, 0.5),
            start,
            method="Radau",
            jac=lambda t, u: [[0, 1], [mu * (-2 * u[0] * u[1] - 1), mu * (1 - u[0] ** 2)]],
            rtol=1e-12,
            atol=1e-14,
        ).y[:, -1]
        errors = []
        for num_steps in (125, 500):
            time_grid = TimeGrid.build(0.0, 0.5, 0.5 / num_steps)
            initial = dict(zip("yz", map(jnp.asarray, start), strict=True))
            found = simulate(VanDerPol(self.MU), initial, time_grid, CrankNicolson(DIRECT))
            errors.append(np.array([found.states[name][-1] for name in "yz"]) - reference)
        np.testing.assert_allclose(np.log2(errors[0] / errors[1]) / 2, 2, atol=0.02)
        assert np.abs(errors[1]).max() < 2e-7


class Robertson(Equations):
    def __call__(self, state):
        a, b, c = state["a"], state["b"], state["c"]
        slow, back, fast = 0.04 * a, 1e4 * b * c, 3e7 * b**2
        return {"a": back - slow, "b": slow - back - fast, "c": fast}


@pytest.mark.thorough
def test_robertson_at_the_end_of_seventeen_decades():
    """Backward Euler is of first order: two extrapolations take its first two terms away."""
    published = [0.2083340149701255e-7, 0.8333360770334713e-13, 0.9999999791665050]

    def end(num_steps: int):
        time_grid = TimeGrid.build(0.0, np.geomspace(1e-6, 1e11, num_steps), 1e12)
        start = {"a": jnp.array(1.0), "b": jnp.array(0.0), "c": jnp.array(0.0)}

        @jax.jit
        def run(start):
            return simulate(Robertson(), start, time_grid, BackwardEuler(DIRECT))

        found = run(start)
        found.check(time_grid)
        values = np.array([found.states[name][-1] for name in "abc"])
        assert values.sum() == pytest.approx(1, abs=1e-13), "mass"
        return values

    coarse, middle, fine = end(400), end(800), end(1600)
    rates = np.log2((coarse - middle) / (middle - fine))[:2]
    np.testing.assert_allclose(rates, 1, atol=0.1)
    once, twice = 2 * middle - coarse, 2 * fine - middle
    np.testing.assert_allclose((4 * twice - once) / 3, published, rtol=3e-4)


class Burgers(Equations):
    viscosity: Any
    width: float = eqx.field(static=True)

    def __call__(self, state):
        u = state["u"]
        ahead = jnp.roll(u, -1)
        flux = (u * u + u * ahead + ahead * ahead) / 6 - self.viscosity * (ahead - u) / self.width
        return {"u": (jnp.roll(flux, 1) - flux) / self.width}


@pytest.mark.thorough
def test_burgers_at_its_order():
    """Cole-Hopf at nu = 0.01 / pi, u = -sin(pi x) at the start, before and after the front."""
    exact = np.array([-0.992081561623, -0.803198420841, -0.430516264182])
    solver = Newton(GMRES(1e-10), GMRES(1e-10), rtol=1e-11)

    def error(cells: int):
        width = 2 / cells
        x = -1 + width * (np.arange(cells) + 0.5)
        time_grid = TimeGrid.build(0.0, 0.25, 0.64 / cells)

        @jax.jit
        def run(start):
            system = Burgers(jnp.array(0.01 / np.pi), width)
            return simulate(system, {"u": start}, time_grid, CrankNicolson(solver))

        found = run(jnp.asarray(-np.sin(np.pi * x)))
        found.check(time_grid)
        u = np.asarray(found.states["u"][-1])
        # The published points lie on faces: interpolated between four cells, to fourth order.
        at = np.searchsorted(x, [0.25, 0.5, 0.75])
        return (-u[at - 2] + 9 * u[at - 1] + 9 * u[at] - u[at + 1]) / 16 - exact

    coarse, fine = error(256), error(512)
    np.testing.assert_allclose(np.log2(coarse / fine), 2, atol=0.1)
    assert np.abs(fine).max() < 3e-5
