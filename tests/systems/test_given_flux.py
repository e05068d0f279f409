"""`Flux`: what enters is what is given, to round-off, whatever the closure, grid and flow are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import taylor_rates

from impindiff._errors import InputError
from impindiff.grid import Axis, Grid
from impindiff.implicit import Newton
from impindiff.integrate import BackwardEuler, CrankNicolson
from impindiff.latent import Parameter
from impindiff.linear import DenseLU
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import Field, System
from impindiff.terms import Advection, Diffusion, Flux, Neumann, NoFlux

DOUBLE = jnp.dtype("float64")
DIRECT = Newton(DenseLU(), DenseLU(), rtol=1e-12)
FLUXES = {
    "diffusion": [Diffusion(lambda c: 0.05 * jnp.exp(3 * c))],
    "with the flow": [
        Diffusion(lambda c: 0.05 * jnp.exp(3 * c), mean="arithmetic"),
        Advection(lambda c: 0.2 + c, "limited"),
    ],
    "known": [Diffusion(0.1), Advection(-0.3, "central")],
}
ROWS = {
    "even": Grid.uniform((12,), ((0, 1),)),
    "finer at the end": Grid([Axis.graded("x", 0, 1, 12, ratio=8)]),
    "coarser at the end": Grid([Axis.graded("x", 0, 1, 12, ratio=1 / 8)]),
    "cylinder": Grid([Axis.graded("r", 0, 1, 12, ratio=3)], "cylindrical"),
}


def gained(system: System, grid: Grid, start: float = 0.3, steps: int = 8) -> float:
    times = TimeGrid.build(0.0, [1.0], 1 / steps)
    begin = {"c": jnp.full(grid.shape, start)}
    found = simulate(system, begin, times, CrankNicolson(DIRECT))
    found.check(times)
    return float((grid.cell_volumes() * (found.states["c"][-1] - start)).sum())


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize("fluxes", FLUXES.values(), ids=FLUXES)
@pytest.mark.parametrize("name", ROWS)
def test_what_enters_is_what_is_given(name: str, fluxes):
    """Per unit of area: the rim of a disc of radius 1 is 2 pi long."""
    grid = ROWS[name]
    ends = Flux(-0.2) if name == "cylinder" else (NoFlux(), Flux(-0.2))
    system = System(grid, {"c": Field(fluxes, {grid.names[0]: ends})})
    area = 2 * np.pi if name == "cylinder" else 1.0
    assert gained(system, grid) == pytest.approx(0.2 * area, rel=1e-10)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["finer at the end", "coarser at the end"])
def test_a_gradient_made_of_a_flux_gives_that_flux(name: str):
    def spread(c):
        return 0.05 * jnp.exp(3 * c)

    ends = NoFlux(), Neumann(lambda c: 0.2 / spread(c))
    system = System(ROWS[name], {"c": Field([Diffusion(lambda c: spread(c))], {"x": ends})})
    assert gained(system, ROWS[name]) == pytest.approx(0.2, rel=1e-10)


@pytest.mark.thorough
def test_both_ends_count_what_leaves():
    grid = ROWS["even"]
    ends = {"x": (Flux(-0.3), Flux(0.1))}
    system = System(grid, {"c": Field(FLUXES["with the flow"], ends)})
    assert gained(system, grid) == pytest.approx(0.2, rel=1e-10)
    rate = system.prepare(DOUBLE).at(jnp.zeros(()))({"c": jnp.zeros(12)})["c"]
    assert rate[0] > 0 > rate[-1]


@pytest.mark.thorough
@pytest.mark.parametrize(
    "value, expected",
    [
        (np.array([0.1, -0.2, 0.4]), 0.1 * 0.5 - 0.2 + 0.4 * 1.5),
        (lambda y: -0.3 * y, -0.3 * (0.25 * 0.5 + 1.0 * 1.0 + 2.25 * 1.5)),
        (lambda t: -0.6 * t, -0.3 * 3),
        (Parameter("q", 0.4, (0.0, 1.0)), 0.4 * 3),
        (lambda s: -2 * s, -3 * 3),
    ],
    ids=["array", "place", "time", "learned", "setting"],
)
def test_every_kind_of_value(value, expected: float):
    """Crank and Nicolson integrate what is linear in time exactly."""
    grid = Grid([Axis("x", 0, 1, 3), Axis.from_faces("y", [0.0, 0.5, 1.5, 3.0])])
    terms = [Diffusion(lambda c: 0.1 + c**2)]
    ends = {"x": (NoFlux(), Flux(value)), "y": NoFlux()}
    is_sample_parameter = callable(value) and value.__code__.co_varnames == ("s",)
    system = System(grid, {"c": Field(terms, ends)}, parameters="s" if is_sample_parameter else ())
    system = system.with_sample_parameters({"s": 1.5}) if is_sample_parameter else system
    assert gained(system, grid, 1.0, 4) == pytest.approx(
        -expected, rel=1e-6 if isinstance(value, Parameter) else 1e-10
    )


@pytest.mark.thorough
def test_the_advective_form_gains_the_same_where_the_flow_has_no_divergence():
    grid = ROWS["finer at the end"]
    terms = [Diffusion(0.1), Advection(-0.3, "upwind", "advective")]
    system = System(grid, {"c": Field(terms, {"x": (Flux(0.0), Flux(-0.2))})})
    assert gained(system, grid) == pytest.approx(0.2, rel=1e-10)


@pytest.mark.thorough
def test_the_gradient_for_a_learned_flux():
    grid = ROWS["finer at the end"]
    times = TimeGrid.build(0.0, [0.5], 0.1)

    def loss(parts):
        ends = NoFlux(), Flux(lambda t, q: -q * (1 + t))
        terms = [Diffusion(lambda c, k: k * (1 + c**2), mean="arithmetic")]
        system = System(grid, {"c": Field(terms, {"x": ends})}, coefficients=parts)
        start = {"c": jnp.full(12, 0.3)}
        return jnp.sum(simulate(system, start, times, BackwardEuler(DIRECT)).states["c"][-1] ** 3)

    rates = taylor_rates(loss, {"q": jnp.array(0.4), "k": jnp.array(0.2)})
    assert min(rates.values()) >= 1.9


def test_in_single_precision_it_is_exact_to_that():
    grid = ROWS["even"]
    system = System(grid, {"c": Field(FLUXES["diffusion"], {"x": (NoFlux(), Flux(-0.2))})})
    rate = system.prepare(jnp.dtype("float32")).at(jnp.zeros((), jnp.float32))
    found = rate({"c": jnp.full(12, 0.3, jnp.float32)})["c"]
    assert found.dtype == jnp.float32
    assert float((grid.cell_volumes() * found).sum()) == pytest.approx(0.2, rel=1e-6)


@pytest.mark.parametrize("wrong", [None, {"a": 1}, "in"])
def test_what_is_no_flux_is_refused(wrong):
    with pytest.raises(InputError, match="the flux of Flux|boundary"):
        System(ROWS["even"], {"c": Field([Diffusion(0.1)], {"x": Flux(wrong)})})
    assert jax.tree.leaves(Flux(0.2)) == [0.2]
