"""The function that configs of advection-diffusion name, and what it refuses."""

import math

import jax
import jax.numpy as jnp
import pytest
from small_problem import make_tables

from impindiff import Advection, Diffusion, Grid, InputError, Parameter, SineField
from impindiff.config import build_system, parse_config

GRID = Grid.uniform((12, 6), ((-1, 1), (0, 1)), periodic=True)
NUMBER = {"name": "D", "initial": 0.1, "bounds": [0.0, 1.0]}
NETWORK = {"names": ["D"], "width": 4, "depth": 1}


def built(**options: object):
    tables = make_tables({f"system.options.{name}": value for name, value in options.items()})
    return build_system(parse_config(tables, "it"), GRID)


def test_tables_stand_for_what_is_unknown_and_numbers_for_what_is_known():
    advection, diffusion = built(velocity=[0.5, -1], diffusivity=NUMBER).equations["concentration"]
    assert isinstance(advection, Advection) and isinstance(diffusion, Diffusion)
    assert isinstance(diffusion.diffusivity, Parameter)
    assert jnp.array_equal(advection.velocity, jnp.array([0.5, -1.0]))
    advection, diffusion = built(diffusivity=NETWORK, scheme="limited").equations["concentration"]
    assert isinstance(advection, Advection) and isinstance(diffusion, Diffusion)
    assert isinstance(advection.velocity, SineField) and advection.scheme == "limited"
    assert isinstance(diffusion.diffusivity, SineField)


REFUSED = [
    ({"diffusivity": -1e-3}, "-0.001"),
    ({"diffusivity": math.nan}, "must be finite"),
    ({"diffusivity": 1e-300}, "float32 takes for 0"),
    ({"diffusivity": "small"}, "diffusivity is 'small': give numbers, or a table"),
    ({"diffusivity": {"kind": "constant"}}, "diffusivity has 'kind'; allowed"),
    ({"diffusivity": NUMBER | {"bounds": [-1.0, 1.0]}}, "may become negative"),
    ({"diffusivity": NUMBER | {"bounds": [0.2, 1.0]}}, "0.1"),
    ({"diffusivity": {"name": "D", "initial": 0.1}}, "diffusivity has no 'bounds'"),
    ({"diffusivity": NETWORK | {"output_range": [-1.0, 1.0]}}, "may become negative"),
    ({"diffusivity": NETWORK | {"names": ["a", "b"]}}, "exactly one name"),
    ({"velocity": [0.5, 0.5]}, "has nothing to learn"),
    ({"velocity": [0.5], "diffusivity": NUMBER}, "velocity has 1 component"),
    ({"velocity": [0.5, math.nan], "diffusivity": NUMBER}, "must be finite"),
    ({"velocity": {"names": []}}, "needs a name"),
    ({"velocity": {"width": 3}}, "velocity has no 'names'"),
    ({"velocity": {"names": ["a", "b"], "widht": 3}}, "velocity has 'widht'; allowed"),
    ({"velocity": {"names": ["a", "b"], "output_range": [1.0, 0.0]}}, r"output range \(1, 0\)"),
    ({"velocity": {"names": ["v", "v"]}}, "'v'"),
    ({"velocity": {"names": ["concentration", "v"]}}, "concentration is the name of a learned"),
    ({"velocity": {"names": ["concentration_truth", "v"]}}, "concentration_truth"),
    ({"scheme": "upwnd"}, "upwnd"),
    ({"speed": 1.0}, "system.options has 'speed', but .* can be given 'velocity', 'diffusivity'"),
]


@pytest.mark.many
@pytest.mark.parametrize("options, said", REFUSED, ids=[str(o)[:60] for o, _ in REFUSED])
def test_other_options_are_refused(options: dict, said: str):
    with jax.enable_x64(False), pytest.raises(InputError, match=said):
        system = built(**options)
        # What only numbers tell is found when the system is evaluated, before a training begins.
        system.check({"concentration": jnp.ones(GRID.shape)})


def test_a_config_that_names_the_equation_by_kind_builds_the_same_system():
    """As those of runs of version 0.1.0 do."""
    tables = make_tables({"data.field": "c", "system.options.diffusivity": NUMBER})
    options = tables["system"]["options"]
    earlier = {
        "kind": "advection-diffusion",
        "scheme": "upwind",
        "velocity": {"kind": "sine-field"} | options["velocity"],
        "diffusivity": {"kind": "parameter"} | NUMBER,
    }
    today = options | {"field": "c", "scheme": "upwind"}
    expected = parse_config(
        tables | {"system": {"build": tables["system"]["build"], "options": today}}, "it"
    )
    assert parse_config(tables | {"system": earlier}, "it") == expected
    assert build_system(expected, GRID).fields == ("c",)
