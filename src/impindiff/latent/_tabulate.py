"""A closure as a table: what it says, apart from any state."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from impindiff._errors import InputError
from impindiff.coefficients import Closure
from impindiff.latent._neural_closure import NeuralClosure


def tabulate(
    closure: NeuralClosure | Closure,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    num: int = 101,
) -> dict[str, np.ndarray]:
    """Values of a closure over ranges of its arguments.

    Args:
        closure: learned or known; its parts must be evaluated, or numbers and arrays.
        ranges: for each argument; those given to a `NeuralClosure` by default.
        num: values of each argument.

    Returns: for each argument its `num` values, and for each component of a `NeuralClosure` (or
        under "value") an array with an axis for each argument.
    Raises: InputError for an argument without a range.
    """
    given = dict(ranges or {})
    if isinstance(closure, NeuralClosure):
        given = dict(zip(closure.arguments, closure.ranges, strict=True)) | given
    if missing := set(closure.arguments) - set(given):
        raise InputError(
            f"the closure {closure.label} cannot be tabulated: give a range for "
            f"{', '.join(sorted(missing))}."
        )
    axes = {name: np.linspace(*given[name], num) for name in closure.arguments}
    mesh = np.meshgrid(*axes.values(), indexing="ij")
    values = {name: jnp.asarray(at) for name, at in zip(axes, mesh, strict=True)}
    found = np.asarray(closure.evaluate(None, None, values))
    names = closure.names if isinstance(closure, NeuralClosure) else ("value",)
    parts = [found] if len(names) == 1 else list(found)
    return axes | dict(zip(names, parts, strict=True))
