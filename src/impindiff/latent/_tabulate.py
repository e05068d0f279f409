"""A closure as a table: what it says, apart from any state."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from impindiff._errors import InputError
from impindiff.coefficients import AbstractClosure
from impindiff.latent._field import AbstractLatent


def tabulate(
    closure: AbstractClosure,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    num: int = 101,
) -> dict[str, np.ndarray]:
    """Values of a closure over ranges of its arguments.

    Args:
        closure: learned or known; its parts must be evaluated, or numbers and arrays.
        ranges: for each argument; by default those that a learned closure expects.
        num: values of each argument.

    Returns: for each argument its `num` values, and for each component of a learned closure (or
        under "value") an array with an axis for each argument.
    Raises: InputError for an argument without a range.
    """
    is_learned = isinstance(closure, AbstractLatent)
    given = {**(closure.input_ranges if is_learned else {}), **(ranges or {})}
    if missing := set(closure.arguments) - set(given):
        raise InputError(
            f"the closure {closure.label} cannot be tabulated: give a range for "
            f"{', '.join(sorted(missing))}."
        )
    axes = {name: np.linspace(*given[name], num) for name in closure.arguments}
    mesh = np.meshgrid(*axes.values(), indexing="ij")
    values = {name: jnp.asarray(at) for name, at in zip(axes, mesh, strict=True)}
    found = np.asarray(closure.evaluate(None, None, values))
    names = closure.names if is_learned else ("value",)
    parts = [found] if len(names) == 1 else list(found)
    return axes | dict(zip(names, parts, strict=True))
