"""Whole numbers and truth values, wherever a number may stand, are what the real numbers are."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
import xarray as xr

import impindiff as ipd
from impindiff._errors import InputError
from impindiff._types import AbstractTendency, as_real, real_state
from impindiff.latents import Corrected

GRID = ipd.Grid.uniform((4,), ((0.0, 1.0),))
CLASSES = np.array([1, 1, 2, 2])
WALL = {"x": ipd.NoFlux()}
THROUGH = {"x": (ipd.Inflow(1.0), ipd.Outflow())}
STATE = {"c": jnp.array([1.0, 2.0, 4.0, 3.0])}


def moved(velocity: Any, scheme: Any = "central") -> ipd.System:
    return ipd.System(GRID, {"c": ipd.Field([ipd.Advection(velocity, scheme)], THROUGH)})


def reacting(function: Callable, coefficients: Any = None, **of_field: Any) -> ipd.System:
    field = ipd.Field([ipd.Reaction(function)], **of_field)
    return ipd.System(GRID, {"c": field}, coefficients=coefficients)


ARRAYS: dict[str, Callable[[Any], ipd.System]] = {
    "diffusivity": lambda k: ipd.System(GRID, {"c": ipd.Field([ipd.Diffusion(k)], WALL)}),
    "prior": lambda k: ipd.System(
        GRID,
        {"c": ipd.Field([ipd.Diffusion(Corrected(k, ipd.Parameter("q", 0.1, (-1, 1))))], WALL)},
    ),
    "source": lambda k: ipd.System(GRID, {"c": [ipd.Source(k)]}),
    "velocity": lambda k: moved([k]),
    "limited velocity": lambda k: moved([k], "limited"),
    "part": lambda k: ipd.System(GRID, {"c": [ipd.Reaction(lambda c, k: -k * c, k=k)]}),
    "named": lambda k: reacting(lambda c, k: -k * c, coefficients={"k": k}),
    # Whole numbers have no inverse, and truth values no sum.
    "inverse": lambda k: reacting(lambda c, k: c * (1 + k) ** -1, coefficients={"k": k}),
    "sum": lambda k: reacting(lambda c, k: c * (k + k), coefficients={"k": k}),
    "returned": lambda k: ipd.System(
        GRID,
        {
            "c": ipd.Field(
                [ipd.Diffusion(lambda k: k.astype(int)), ipd.Source(lambda x: x > 0.5)], WALL
            )
        },
        coefficients={"k": k},
    ),
}
NUMBERS: dict[str, Callable[[Any], ipd.System]] = {
    "number": lambda k: ipd.System(GRID, {"c": ipd.Field([ipd.Diffusion(k), ipd.Source(k)], WALL)}),
    "uniform wind": lambda k: moved(k),
    "at faces": lambda k: moved(ipd.latents.FaceVelocity(k)),
    "dirichlet": lambda k: ipd.System(
        GRID, {"c": ipd.Field([ipd.Diffusion(1)], {"x": ipd.Dirichlet(k)})}
    ),
    "neumann": lambda k: ipd.System(
        GRID, {"c": ipd.Field([ipd.Diffusion(1)], {"x": ipd.Neumann(k)})}
    ),
    "robin": lambda k: ipd.System(
        GRID, {"c": ipd.Field([ipd.Diffusion(1)], {"x": ipd.Robin(k, k)})}
    ),
    "inflow": lambda k: ipd.System(
        GRID, {"c": ipd.Field([ipd.Advection(1)], {"x": (ipd.Inflow(k), ipd.Outflow())})}
    ),
    "exponent": lambda k: reacting(lambda c, k: -(c**k), coefficients={"k": k}),
}


def rates(system: ipd.System) -> np.ndarray:
    double = jnp.dtype("float64")
    found = system.prepare(double).at(jnp.zeros((), double))(STATE)["c"]
    assert found.dtype == double
    return np.asarray(found)


@pytest.mark.many
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_any_type_are_real(name: str):
    make = ARRAYS[name]
    expected = rates(make(CLASSES.astype(float)))
    for classes in (CLASSES, CLASSES.tolist(), jnp.asarray(CLASSES), CLASSES.astype(np.uint8)):
        np.testing.assert_allclose(rates(make(classes)), expected, rtol=1e-14)
    np.testing.assert_allclose(rates(make(CLASSES > 1)), rates(make((CLASSES > 1) * 1.0)))


@pytest.mark.many
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_any_type_are_real(name: str):
    make = NUMBERS[name]
    for given in (2, np.int64(2), np.float32(2), np.array(2), True, np.bool_(True)):
        np.testing.assert_allclose(rates(make(given)), rates(make(float(given))), rtol=1e-14)


def test_what_is_stored_and_where_it_begins_are_real():
    capacity = reacting(lambda c: -c, capacity=CLASSES)
    np.testing.assert_allclose(rates(capacity), -STATE["c"] / CLASSES)
    double = jnp.dtype("float64")
    stored = reacting(lambda c: -c, storage=CLASSES).prepare(double).at(jnp.zeros(()))
    assert isinstance(stored, AbstractTendency)
    np.testing.assert_allclose(stored.stored(STATE)["c"], STATE["c"] * CLASSES)
    begun = reacting(lambda c: -c, initial=CLASSES.tolist()).start(0, double)
    np.testing.assert_array_equal(begun["c"], CLASSES.astype(float))
    algebraic = ipd.System(
        None,
        {
            "c": [ipd.Reaction(lambda c: -c)],
            "p": ipd.Field([ipd.Reaction(lambda c, p: c - p)], storage=np.int64(0)),
        },
    )
    assert algebraic.algebraic == ("p",)


@pytest.mark.thorough
def test_whole_initial_fields_begin_as_real_ones():
    steps, how = ipd.TimeGrid.build(0, [1, 2], 1), ipd.BackwardEuler()
    wall = ipd.System(GRID, {"c": ipd.Field([ipd.Diffusion(1)], WALL)})
    found = ipd.simulate(wall, {"c": jnp.asarray(CLASSES)}, steps, how).states["c"]
    same = ipd.simulate(wall, {"c": jnp.asarray(CLASSES, float)}, steps, how).states["c"]
    assert found.dtype == jnp.float64
    np.testing.assert_array_equal(found, same)
    wall.check({"c": CLASSES}, 0)


def test_whole_fields_take_the_precision_of_the_others():
    made = real_state({"a": np.arange(3), "b": jnp.ones(3, jnp.float32), "c": True})
    assert {name: u.dtype for name, u in made.items()} == dict.fromkeys("abc", jnp.float32)
    assert real_state({"a": 1})["a"].dtype == jnp.float64


def test_an_index_is_taken_by_name():
    """What a function is given is real: an index says that it is one."""
    table = jnp.array([0.0, 0.1, 0.3])

    def layered(index: Callable) -> ipd.System:
        term = ipd.Diffusion(lambda soil: table[index(soil)])
        return ipd.System(GRID, {"c": ipd.Field([term], WALL)}, coefficients={"soil": CLASSES})

    expected = ipd.System(GRID, {"c": ipd.Field([ipd.Diffusion(table[CLASSES])], WALL)})
    np.testing.assert_allclose(rates(layered(lambda k: k.astype(int))), rates(expected))
    with pytest.raises(ipd.InputError, match=r"takes an index .* write k\.astype\(int\)"):
        rates(layered(lambda k: k))


def test_text_and_other_things_stay_what_they_are():
    for thing in ("k", None, 2, [1, "a"], [[1, 2], [3]], {}, object):
        assert as_real(thing) is thing
    assert as_real([[1, 2], [3, 4]]).dtype == np.float64


def test_an_array_whose_axes_have_names_is_refused():
    """They may stand in another order than the grid's."""
    grid = ipd.Grid.uniform((3,), ((0.0, 1.0),), periodic=True)
    layers: Any = xr.DataArray(np.ones(3), dims="x")
    with runtime_types.without(), pytest.raises(InputError, match="a DataArray where a coeff"):
        ipd.System(grid, {"c": [ipd.Diffusion(lambda k: k)]}, coefficients={"k": layers})
    with runtime_types.without(), pytest.raises(InputError, match=r"its numbers, `.values`"):
        ipd.System(grid, {"c": [ipd.Diffusion(layers)]})
