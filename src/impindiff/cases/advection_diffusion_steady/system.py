r"""Advection-diffusion on a periodic box; its velocity is unknown.

$$ c_t + \nabla\cdot(\mathbf v(x, y)\,c) = \nabla\cdot(D\,\nabla c) $$
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import impindiff as ipd

NETWORK = ("names", "width", "depth", "frequency", "output_range", "bounds")
NUMBER = ("name", "initial", "bounds")


def build(grid, key, velocity, diffusivity, scheme: Any = "upwind", field="concentration"):
    """The equation with an unknown velocity, an unknown diffusivity, or both.

    Args:
        grid: of the data; all its axes are periodic.
        key: random key of networks.
        velocity: a number for each axis; or, for an unknown one, a table of what `SineField` takes:
            `names` of the components, `width`, `depth`, `frequency`, `output_range`, `bounds`.
        diffusivity: a number; or, for an unknown one, a table of what `Parameter` takes, `name`,
            `initial` and `bounds`, or of what `SineField` takes.
        scheme: of advection, "upwind", "central" or "limited".
        field: name of what is carried, as in the data.
    """
    if ends := [axis.name for axis in grid.axes if not axis.periodic]:
        raise ipd.InputError(
            f"the axis {ends[0]!r} is not periodic, and this function states no boundary "
            "conditions: write one of your own that does, and name it by system.build. Where the "
            "axis is a ring, have the data say so, dataset.attrs['boundary'] = 'periodic', or the "
            "config, with periodic = true in a [[grid]] table for each axis."
        )
    of_velocity, of_diffusivity = jax.random.split(key, 2)
    v = coefficient("velocity", velocity, grid, of_velocity)
    D = coefficient("diffusivity", diffusivity, grid, of_diffusivity)
    components = len(v.names) if isinstance(v, ipd.SineField | ipd.Parameter) else jnp.size(v)
    if components != grid.num_axes:
        raise ipd.InputError(
            f"velocity has {components} component(s), but the grid has {grid.num_axes} axes "
            f"({', '.join(grid.names)}): give one for each axis."
        )
    if len(getattr(D, "names", ())) > 1:
        raise ipd.InputError("diffusivity is one field: give it exactly one name.")
    return ipd.advection_diffusion(grid, v, D, scheme=scheme, field=field)


def build_network(grid, key):
    """What it is compared with: a rate of change that is a network of the whole field."""
    rate = ipd.latents.ConvolutionalClosure(
        "rate", {"concentration": (0.0, 2.2)}, 2, width=8, key=key
    )
    return ipd.System(grid, {"concentration": [ipd.Reaction(rate)]})


def coefficient(option, said, grid, key):
    """A coefficient: numbers as they are, a table as what is to be learned."""
    if not isinstance(said, Mapping):
        return numbers(option, said)
    is_number = "initial" in said
    allowed = NUMBER if is_number else NETWORK
    if strange := [name for name in said if name not in allowed]:
        raise ipd.InputError(
            f"{option} has {strange[0]!r}; allowed with what else it has: {', '.join(allowed)}."
        )
    needed = NUMBER if is_number else ("names",)
    if missing := [name for name in needed if name not in said]:
        raise ipd.InputError(f"{option} has no {missing[0]!r}: add it.")
    if option == "diffusivity":
        check_positive(said)
    arguments: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in said.items()
    }
    if is_number:
        return ipd.Parameter(**arguments)
    return ipd.SineField(grid.num_axes, **arguments, key=key)


def numbers(option, said):
    """Known numbers, in the precision of the run."""
    try:
        found = jnp.asarray(said, float)
    except (TypeError, ValueError):
        raise ipd.InputError(
            f"{option} is {said!r}: give numbers, or a table with the names of what is unknown."
        ) from None
    if not jnp.isfinite(found).all():
        raise ipd.InputError(f"{option} is {said!r}: every number must be finite.")
    if jnp.any((found == 0) != (np.asarray(said) == 0)):
        raise ipd.InputError(
            f"{option} is {said!r}, which {found.dtype} takes for 0: choose another unit, or "
            "precision = 'float64'."
        )
    return found


def check_positive(said):
    """Refuse a diffusivity that may become negative."""
    low = min(said.get("bounds", said.get("output_range", (0.0, 1.0))))
    if low < 0:
        raise ipd.InputError(f"diffusivity may become negative: its range begins at {low}.")
