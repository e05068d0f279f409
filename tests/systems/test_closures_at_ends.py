"""Functions of the state at outer faces: with the value that a condition gives there."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

import impindiff as ipd
from impindiff.grid import Axis, Grid
from impindiff.implicit import Newton
from impindiff.integrate import SDIRK2, BackwardEuler
from impindiff.latent import ConvolutionalClosure
from impindiff.linear import Tridiagonal
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import Field, FluxOf, Reaction, Supply, System
from impindiff.terms import (
    AbstractBoundary,
    AbstractTwoPointFlux,
    Advection,
    Affine,
    BoundaryFace,
    Diffusion,
    Dirichlet,
    Flux,
    Inflow,
    Neumann,
    NoFlux,
    Outflow,
    Robin,
)

DOUBLE = jnp.dtype("float64")
NOW = jnp.array(0.3)
DIRECT = Newton(Tridiagonal(), rtol=1e-11, max_steps=60)


class Held(AbstractBoundary):
    """A condition as users write it, which says what value its face has."""

    value: Any

    def flux(self, face: BoundaryFace) -> Affine:
        """See `AbstractBoundary.flux`."""
        return face.flux_for((self.value, 0.0))


def rate_at_end(field: float, terms, condition, cells: int = 4, **options) -> float:
    """What leaves the last of equal cells of width 0.5 through its face, all at one value."""
    grid = Grid.uniform((cells,), ((0, cells / 2),))
    system = System(grid, {"u": Field(terms, {"x": (NoFlux(), condition)})}, **options)
    rate = system.prepare(DOUBLE).at(NOW)({"u": jnp.full(cells, field)})["u"]
    return -0.5 * float(rate[-1])


def root(function: Callable[[float], float], low: float, high: float) -> float:
    found: Any = brentq(function, low, high)
    return float(found)


def entered_by_similarity() -> float:
    r"""What enters at $x = 0$, held at 1, of $u_t = (2 u u_x)_x$ in an empty medium, over sqrt(t).

    With $u = f(x/\sqrt t)$, $(2 f f')' + \eta f'/2 = 0$, shot back from the front, where
    $f = \eta_0 (\eta_0 - \eta)/4$. What has entered is $-4 f f'$ at 0 times $\sqrt t$.
    """

    def shoot(front: float) -> np.ndarray:
        near = 1e-7

        def slopes(eta, f_and_flux):
            slope = -f_and_flux[1] / (2 * f_and_flux[0])
            return [slope, eta / 2 * slope]

        begin = [front * near / 4, front**2 * near / 8]
        return solve_ivp(slopes, (front - near, 0), begin, rtol=1e-10, atol=1e-13).y[:, -1]

    return 2 * shoot(root(lambda front: shoot(front)[0] - 1, 1, 5))[1]


class Slowed(AbstractTwoPointFlux):
    """A term of one's own, made of another."""

    by: float
    part: Diffusion

    def face_coefficients(self, grid, axis):
        return jax.tree.map(lambda value: value / self.by, self.part.face_coefficients(grid, axis))

    def boundary_face(self, grid, axis, side):
        return self.part.boundary_face(grid, axis, side)  # none of these tests lets anything pass


def test_a_term_that_is_made_of_others_chooses_for_them():
    """The mean of a face, which by default depends on whether the diffusivity does on the state."""
    grid = Grid.uniform((8,), ((0, 1),))
    terms = [Diffusion(lambda u: 2 * u), Slowed(2.0, Diffusion(lambda u: 4 * u))]

    def rate(term) -> np.ndarray:
        system = System(grid, {"u": Field([term], {"x": NoFlux()})})
        return np.asarray(system.prepare(DOUBLE).at(NOW)({"u": jnp.arange(8.0)})["u"])

    default, made = map(rate, terms)
    np.testing.assert_allclose(made, default, rtol=1e-6)
    # Between an empty cell and its neighbour the other mean lets nothing pass.
    assert rate(Diffusion(lambda u: 2 * u, mean="harmonic"))[0] == 0 < made[0]


@pytest.mark.thorough
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("start", [0.0, 1e-3])
@pytest.mark.parametrize("condition", [Dirichlet(1.0), Held(1.0), Dirichlet(lambda t: 1 + 0 * t)])
def test_a_front_enters_a_dry_medium_from_either_end(condition, start: float, side: int):
    """A medium that is not quite dry takes up less: 0.00025 at a thousandth, by LSODA."""
    cells = 40
    grid = Grid.uniform((cells,), ((0, 1),))
    ends = (condition, NoFlux()) if side == 0 else (NoFlux(), condition)
    system = System(
        grid, {"u": Field([Diffusion(lambda u: 2 * u, mean="arithmetic")], {"x": ends})}
    )
    times = TimeGrid.build(0.0, [0.1], 2e-3)
    found = simulate(system, {"u": jnp.full(cells, start)}, times, SDIRK2(DIRECT))
    found.check(times)
    u = np.asarray(found.states["u"][-1])
    expected = entered_by_similarity() * np.sqrt(0.1) - 0.25 * start
    assert expected + 0.25 * start == pytest.approx(0.39690, abs=1e-5)
    assert u.mean() - start == pytest.approx(expected, abs=2e-4)
    assert u.min() >= 0
    if side:
        u = u[::-1]
    assert (np.diff(u) <= 1e-12).all()


@pytest.mark.thorough
@pytest.mark.parametrize("mean", ["arithmetic", "harmonic"])
def test_conduction_between_two_held_values_settles_in_second_order(mean):
    r"""$(e^u u')' = 0$ between 0 and 2: $e^u$ is a straight line (Kirchhoff)."""

    def error(cells: int) -> float:
        grid = Grid([Axis.graded("x", 0, 1, cells, ratio=2.0)])
        ends = {"x": (Dirichlet(0.0), Dirichlet(2.0))}
        system = System(grid, {"u": Field([Diffusion(lambda u: jnp.exp(u), mean=mean)], ends)})
        return settled_error(system, np.log(1 + (np.e**2 - 1) * grid.centres()[0]))

    coarse, fine = error(40), error(80)
    assert np.log2(coarse / fine) == pytest.approx(2, abs=0.12) and fine < 2e-3


def settled_error(system: System, exact: np.ndarray) -> float:
    times = TimeGrid.build(0.0, [1e6], 2.5e5)
    found = simulate(system, {"u": jnp.ones(exact.size)}, times, BackwardEuler(DIRECT))
    found.check(times)
    return float(np.abs(np.asarray(found.states["u"][-1]) - exact).max())


@pytest.mark.thorough
@pytest.mark.parametrize("side", [0, 1])
def test_an_exchange_that_depends_on_the_state_settles_in_second_order(side: int):
    r"""$D = e^u$ held at 0.2, and at the other end $e^u u' = h (2 - u)$, $h = 3(u^2 + 4)(u + 2)$.

    Radiation: the transfer is that at the face, as the diffusivity is.
    """

    def transfer(u):
        return 3 * (u**2 + 4) * (u + 2)

    gain = root(lambda u: np.exp(u) - np.exp(0.2) - transfer(u) * (2 - u), 0.2, 2)

    def error(cells: int) -> float:
        grid = Grid.uniform((cells,), ((0, 1),))
        ends = Dirichlet(0.2), Robin(transfer, 2.0)
        ends = ends if side else ends[::-1]
        term = Diffusion(lambda u: jnp.exp(u), mean="arithmetic")
        (x,) = grid.centres()
        x = x if side else 1 - x
        exact = np.log(np.exp(0.2) + (np.exp(gain) - np.exp(0.2)) * x)
        return settled_error(System(grid, {"u": Field([term], {"x": ends})}), exact)

    coarse, fine = error(40), error(80)
    assert np.log2(coarse / fine) == pytest.approx(1.95, abs=0.15) and fine < 1e-4


@pytest.mark.many
@pytest.mark.parametrize("condition", [Dirichlet(3.0), Held(3.0), Dirichlet(lambda u: 3 + 0 * u)])
@pytest.mark.parametrize("mean, between", [("arithmetic", 5.0), ("harmonic", 3.6)])
def test_the_half_cell_has_the_mean_of_the_term(mean, between: float, condition):
    """D = u^2 from 1 in the cell to 9 at the face: 5, or 18/10 times 2."""
    if mean == "harmonic":
        between = 2 * 1 * 9 / (1 + 9)
    leaves = rate_at_end(1.0, [Diffusion(lambda u: u**2, mean=mean)], condition)
    assert leaves == pytest.approx(-between * (3 - 1) / 0.25)


@pytest.mark.thorough
@pytest.mark.parametrize("scheme", ["upwind", "central", "limited"])
def test_what_flows_in_has_its_own_speed(scheme):
    """Burgers' flux u^2/2 of the value that is given, into an empty cell, too."""
    for value in (Dirichlet(-2.0), Inflow(-2.0), Held(-2.0)):
        for cell in (0.0, -0.5):
            leaves = rate_at_end(cell, [Advection(lambda u: u / 2, scheme)], value)
            # Through the other face of the cell its like is exchanged.
            assert leaves == pytest.approx(2.0 - 0.5 * cell**2)


def test_what_exchanges_has_a_value_between_the_cell_and_the_ambient():
    """D = 1 + u at the face's value, which is found with that of the cell, 2."""
    at_face = (2 / 0.25 * 1.0 + 4.0 * 3.0) / (2 / 0.25 + 4.0)
    conductance = (2.0 + (1 + at_face)) / 2 / 0.25
    at_face = (conductance * 1.0 + 4.0 * 3.0) / (conductance + 4.0)
    leaves = rate_at_end(1.0, [Diffusion(lambda u: 1 + u, mean="arithmetic")], Robin(4.0, 3.0))
    assert leaves == pytest.approx(4.0 * (at_face - 3.0))


def test_named_coefficients_are_evaluated_there_too():
    terms = [Diffusion(lambda k: k, mean="arithmetic")]
    named = {"k": lambda v, u: v * u, "v": lambda u, x: u + x}
    leaves = rate_at_end(1.0, terms, Dirichlet(3.0), coefficients=named)
    # In the cell 1 (1 + 1.75), at the face 3 (3 + 2).
    assert leaves == pytest.approx(-(2.75 + 15.0) / 2 * 2.0 / 0.25)


def test_other_fields_have_the_values_that_their_conditions_give():
    """Whether their own fluxes depend on the state or not."""
    grid = Grid.uniform((4,), ((0, 2),))
    term = Diffusion(lambda a, b, c, d: a + 10 * b + 100 * c + 1000 * d, mean="arithmetic")
    system = System(
        grid,
        {
            "u": Field([term], {"x": (NoFlux(), Dirichlet(2.0))}),
            "a": Field([Diffusion(0.5)], {"x": (NoFlux(), Dirichlet(5.0))}),  # held
            "b": Field(
                [Diffusion(lambda b: 0.5 + 0 * b)], {"x": (NoFlux(), Robin(2.0, 7.0))}
            ),  # exchanges
            "c": Field([Diffusion(0.5)], {"x": NoFlux()}),  # has a wall
            "d": Field([Diffusion(0.5)], {"x": (NoFlux(), Robin(2.0, 5.0))}),  # exchanges
        },
        integrals={"supplied": [Supply(FluxOf("u"))]},
    )
    state = {name: jnp.ones(4) for name in "uabcd"}
    prepared = system.prepare(DOUBLE)
    rate = prepared.at(NOW)(state)["u"]
    at_face = 5 + 10 * (1 + 7) / 2 + 100 * 1 + 1000 * (1 + 5) / 2
    assert 0.5 * float(rate[-1]) == pytest.approx((1111 + at_face) / 2 * 1.0 / 0.25)
    # What is accounted for is the very flux.
    supplied = prepared.integrands(NOW, ("supplied",))(state)["supplied"]
    np.testing.assert_allclose(supplied, rate, rtol=1e-14)


@pytest.mark.thorough
def test_arrays_of_all_cells_in_a_function_have_the_value_of_the_cell():
    grid = Grid.uniform((3, 2), ((0, 1.5), (0, 1)))
    spread = jnp.arange(1.0, 7.0).reshape(3, 2)
    system = System(
        grid,
        {
            "u": Field(
                [Diffusion(lambda u: spread * u, mean="arithmetic")],
                {"x": NoFlux(), "y": (NoFlux(), Dirichlet(np.array([3.0, 5.0, 7.0])))},
            )
        },
    )
    rate = system.prepare(DOUBLE).at(NOW)({"u": jnp.ones((3, 2))})["u"]
    held = np.array([3.0, 5.0, 7.0])
    expected = np.array([2.0, 4.0, 6.0]) * (1 + held) / 2 * (held - 1) / 0.25 / 0.5
    np.testing.assert_allclose(rate[:, 1], expected)
    np.testing.assert_array_equal(rate[:, 0], 0)


@pytest.mark.thorough
def test_a_function_of_whole_fields_is_carried_on_from_the_cells():
    """So is one that is the same everywhere."""
    grid = Grid.uniform((4,), ((0, 2),))
    key = jax.random.key(0)
    whole = ConvolutionalClosure("k", {"u": (0.0, 2.0)}, 1, width=2, levels=1, key=key)
    ends = {"x": (NoFlux(), Dirichlet(3.0))}
    state = {"u": jnp.array([1.0, 1.2, 0.9, 1.4])}
    for function in (whole, lambda u: 0 * u.mean()):
        terms = [Diffusion(lambda k: 2.0 + k)], [Diffusion(2.0)]
        first = System(grid, {"u": Field(terms[0], ends)}, coefficients={"k": function})
        second = System(grid, {"u": Field(terms[1], ends)})
        rates = [one.prepare(DOUBLE).at(NOW)(state)["u"] for one in (first, second)]
        np.testing.assert_allclose(*rates, rtol=1e-6)


def test_a_given_gradient_meets_the_diffusivity_that_its_function_saw():
    """One that is no function of the state meets what the cells lead to, in second order."""
    terms = [Diffusion(lambda u, x: jnp.exp(u) * x)]
    leaves = rate_at_end(0.7, terms, Neumann(lambda u, x: 0.2 / (jnp.exp(u) * x)))
    assert leaves == pytest.approx(-0.2, rel=1e-14)
    assert rate_at_end(0.7, terms, Neumann(0.2)) == pytest.approx(-0.2 * np.exp(0.7) * 2.0)


@pytest.mark.thorough
def test_axes_and_ends_are_alike():
    grid = Grid.uniform((4, 4), ((0, 1), (0, 1)))
    terms = [
        Diffusion(lambda u: 0.1 + u**2, mean="arithmetic"),
        Advection(lambda u: (0.3 * u, -0.2 * u), "central"),
        Reaction(lambda u: -u),
    ]
    turned = [terms[0], Advection(lambda u: (0.2 * u, 0.3 * u), "central"), terms[2]]
    west, north = Robin(lambda u: 1 + u, 2.0), Dirichlet(lambda x: 1 + x)
    south, east = Inflow(0.5), Outflow()
    u = jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.5, (4, 4)))
    first = System(grid, {"u": Field(terms, {"x": (west, east), "y": (south, north)})})
    # A quarter turn: x becomes y, and y runs against x.
    north = Dirichlet(lambda y: 1 + y)
    second = System(grid, {"u": Field(turned, {"x": (north, south), "y": (west, east)})})
    rates = first.prepare(DOUBLE).at(NOW)({"u": u})["u"]
    other = second.prepare(DOUBLE).at(NOW)({"u": u.T[::-1]})["u"]
    np.testing.assert_allclose(other, rates.T[::-1], rtol=1e-12, atol=1e-12)


def test_an_end_of_its_own_is_a_flux_it_says():
    """A law for the flux gives the face no value: closures see the cell's, and it is exact."""
    leaves = rate_at_end(1.0, [Diffusion(lambda u: u**2)], Flux(lambda u: 0.3 * u))
    assert leaves == pytest.approx(0.3)


@pytest.mark.thorough
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_front_enters_a_dry_medium_by_default(wrapped):
    """$u_t = (2 u u_x)_x$ from exactly zero, the mean of the faces not given."""
    law: Any = (lambda D: D) if wrapped else (lambda u: 2 * u)
    grid = ipd.Grid.uniform((100,), ((0, 1),))
    ends = {"x": (ipd.Dirichlet(1.0), ipd.NoFlux())}
    system = ipd.System(
        grid,
        {"u": ipd.Field([ipd.Diffusion(law)], ends)},
        coefficients={"D": lambda u: 2 * u} if wrapped else {},
    )
    times, expected = ipd.TimeGrid.build(0.0, [0.1], 1e-3), entered_by_similarity() * np.sqrt(0.1)
    found = ipd.simulate(system, {"u": jnp.zeros(100)}, times, ipd.BackwardEuler())
    assert float(found.states["u"][-1].mean()) == pytest.approx(expected, abs=5e-4)


@pytest.mark.thorough
def test_of_a_material_that_varies_the_mean_stays_harmonic():
    """Nothing passes the cell that lets nothing through."""
    grid = ipd.Grid.uniform((9,), ((0, 1),))
    conducts = jnp.where(jnp.arange(9) == 4, 0.0, 1.0)
    system = ipd.System(grid, {"u": ipd.Field([ipd.Diffusion(conducts)], {"x": ipd.NoFlux()})})
    start = jnp.where(jnp.arange(9) < 4, 1.0, 0.0)
    times = ipd.TimeGrid.build(0.0, [1.0], 0.1)
    found = ipd.simulate(system, {"u": start}, times, ipd.BackwardEuler()).states["u"][-1]
    np.testing.assert_allclose(found, start, atol=1e-12)
