"""The gradient of a rollout with nothing chosen: every stepper, end and law, in float64."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import final_classes
from gradients import taylor_rates

import impindiff as ipd

STEPPERS = {
    "BE": ipd.BackwardEuler(),
    "CN": ipd.CrankNicolson(),
    "SDIRK2": ipd.steppers.SDIRK2(),
    "ESDIRK4": ipd.steppers.ESDIRK4(),
    "ARK4": ipd.steppers.ARK4(),
    "RK4": ipd.steppers.RungeKutta4(substeps=4),
    "Tsitouras5": ipd.steppers.Tsitouras5(substeps=3),
}
ENDS = {
    "held": lambda g: ipd.Dirichlet(g),
    "slope": lambda g: ipd.Neumann(0.1 * g),
    "exchange": lambda g: ipd.Robin(0.5 + g**2, g),
    "inflow": lambda g: (ipd.Inflow(g), ipd.Outflow()),
    "flux": lambda g: (ipd.Flux(-0.1 * g), ipd.NoFlux()),
}
LAWS = {
    "number": lambda k: k,
    "closure": lambda k: ipd.latents.Closure(lambda u, k: k * (1 + u**2), k=k),
}
STORES = {"itself": None, "function": lambda u: u + 0.3 * u**2}
QUICK = {
    ("BE", "held", "closure", "itself"),
    ("CN", "exchange", "number", "itself"),
    ("SDIRK2", "inflow", "closure", "function"),
    ("SDIRK2", "flux", "closure", "itself"),
    ("ESDIRK4", "exchange", "closure", "function"),
    ("ARK4", "inflow", "number", "itself"),
    ("RK4", "slope", "closure", "itself"),
    ("Tsitouras5", "held", "closure", "itself"),
}


def combinations() -> list[Any]:
    found = []
    for stepper in STEPPERS:
        for end in ENDS:
            for law in LAWS:
                for store in STORES:
                    if STEPPERS[stepper].is_explicit and store == "function":
                        continue  # refused: an explicit step knows no way back to the field
                    key = (stepper, end, law, store)
                    marks = () if key in QUICK else pytest.mark.slow
                    found.append(pytest.param(*key, marks=marks, id="-".join(key)))
    return found


def test_every_condition_is_under_contract():
    made = jax.tree.leaves([make(0.5) for make in ENDS.values()], is_leaf=_is_condition)
    assert {type(one) for one in made} == final_classes(ipd.boundaries.AbstractBoundary)


def _is_condition(node: Any) -> bool:
    return isinstance(node, ipd.boundaries.AbstractBoundary)


@pytest.mark.thorough
@pytest.mark.parametrize("stepper, end, law, store", combinations())
def test_the_gradient_leaves_a_second_order_remainder(stepper, end, law, store):
    grid = ipd.Grid([ipd.Axis.graded("x", 0.0, 1.0, 9, ratio=3.0)])
    times = ipd.TimeGrid.build(0.0, [0.06], 0.02)
    # Not alike: what one cell gains another loses, and what curves would nearly cancel in the sum.
    weights = np.arange(1.0, 10.0) % 4

    def loss(parts: dict[str, jax.Array]) -> jax.Array:
        terms = [ipd.Diffusion(LAWS[law](parts["k"])), ipd.Advection(parts["wind"])]
        ends = {"x": ENDS[end](parts["end"])}
        system = ipd.System(grid, {"u": ipd.Field(terms, ends, storage=STORES[store])})
        found = ipd.simulate(system, {"u": parts["start"]}, times, STEPPERS[stepper])
        return jnp.sum(weights * found.states["u"][-1] ** 4)

    x = np.linspace(0, 1, 9)
    parts = {
        "k": jnp.asarray(0.05 + 0.02 * x),
        "wind": jnp.asarray([0.7]),
        "start": jnp.asarray(0.6 + 0.3 * np.sin(3 * x)),
        "end": jnp.asarray(0.8),
    }
    rates = taylor_rates(loss, parts)
    assert all(rate >= 1.9 for rate in rates.values()), rates
