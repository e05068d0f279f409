r"""A certificate for a gradient: the Taylor test along random directions.

With the true gradient the remainder $|f(p + h d) - f(p) - h\,\nabla f(p)\cdot d|$ falls as $h^2$;
with any other vector it falls as $h$. The observed rate tells the two apart with no tolerance to
choose. Comparing forward with reverse mode would not: both come from the same rule. Comparing with
a gradient made in another way, by reverse mode through the iterations, does.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from impindiff._errors import InputError, numerics_errors
from impindiff.linear import tree

# What separates the rate 2 of a true gradient from the rate 1 of a wrong one.
_LEAST_RATE = 1.9
# The derivative of an iterate is no better than the iterate is converged.
_LARGEST_REFERENCE_ERROR = 1e-6
# Steps, relative to the point: each half of the one before.
_STEPS = 2.0 ** -np.arange(3, 19)
# Remainders below this many units of the accuracy of the function's value say nothing.
_NOISE_UNITS = 64


@final
@dataclass(frozen=True)
class DirectionCheck:
    """The test along one direction.

    Attributes:
        with_respect_to: the part of the point that was changed.
        rate: order in which the remainder falls, 2 for a true gradient; infinite where the
            function is linear along the direction and nothing remains; NaN where gradient or
            function are not finite.
        relative_error: of the slope that the gradient gives, against central differences.
    """

    with_respect_to: str
    rate: float
    relative_error: float

    @property
    def passed(self) -> bool:
        """Whether the remainder falls fast enough."""
        return self.rate >= _LEAST_RATE


@final
@dataclass(frozen=True)
class GradientCheck:
    """The tests along all directions.

    Attributes:
        directions: one check each.
        reference_error: norm of the difference to the reference's gradient, relative to that; None
            without a reference.
    """

    directions: tuple[DirectionCheck, ...]
    reference_error: float | None = None

    @property
    def passed(self) -> bool:
        """Whether every direction passed, and the comparison with the reference."""
        agrees = self.reference_error is None or self.reference_error <= _LARGEST_REFERENCE_ERROR
        return agrees and all(check.passed for check in self.directions)

    def lags(self, other: "GradientCheck") -> bool:
        """Whether, along the same directions, this gradient is further from what the function does.

        An iterate's derivative may be so, however well the iterate is converged.
        """
        pairs = zip(self.directions, other.directions, strict=True)
        return any(
            mine.relative_error > max(_LARGEST_REFERENCE_ERROR, 10 * its.relative_error)
            for mine, its in pairs
        )


@numerics_errors()
def check_gradient(
    function: Callable[[PyTree], jax.Array],
    point: PyTree,
    *,
    num_directions: int = 3,
    seed: int = 0,
    accuracy: float = float(np.finfo(np.float64).eps),
    reference: Callable[[PyTree], jax.Array] | None = None,
) -> GradientCheck:
    """Test the gradient of a function by its Taylor remainders.

    Args:
        function: from a PyTree of real arrays to a number; differentiable in reverse mode.
        point: where to test. In float64: in single precision round-off hides the remainders. The
            parts of a dictionary are tested one by one, the others held fixed.
        num_directions: random directions for each part, each as long as the part is.
        seed: of the directions.
        accuracy: of the function's values, relative; with solves inside it, about their tolerance.
            Remainders that drown in it are not looked at.
        reference: the same function, its gradient made in another way (`UnrolledAdjoint`).

    Raises: InputError for a point that is not float64, or a function that is not a finite number
        there.
    """
    leaves = [leaf for leaf in jax.tree.leaves(point) if jnp.size(leaf)]
    if num_directions < 1 or not leaves or any(jnp.asarray(a).dtype != jnp.float64 for a in leaves):
        found = sorted({str(jnp.asarray(leaf).dtype) for leaf in leaves}) or "nothing"
        raise InputError(
            f"a gradient is checked at a point of float64 arrays along at least one direction; "
            f"found {found} and "
            f"{num_directions} directions. Enable it by jax.config.update('jax_enable_x64', True)."
        )
    evaluate = jax.jit(function)
    value, gradient = jax.jit(jax.value_and_grad(function))(point)
    if not jnp.isfinite(value):
        raise InputError(
            f"the function is {value} at the point: its gradient cannot be checked there."
        )
    checks = []
    for name, direction in _directions(point, num_directions, seed):
        slope = float(tree.dot(gradient, direction))

        def along(h: float, direction: PyTree = direction) -> float:
            return float(evaluate(jax.tree.map(lambda p, d: p + h * d, point, direction)))

        checks.append(DirectionCheck(name, *_check(along, float(value), slope, accuracy)))
    error = None
    if reference is not None:
        other = jax.jit(jax.grad(reference))(point)
        difference = float(tree.norm(tree.subtract(gradient, other)))
        error = difference / (float(tree.norm(other)) or 1.0)
    return GradientCheck(tuple(checks), error)


def _directions(point: PyTree, count: int, seed: int) -> Iterator[tuple[str, PyTree]]:
    """Random directions, each along one part of the point."""
    random = np.random.default_rng(seed)
    parts = {str(k): k for k in point} if isinstance(point, dict) else {"point": None}
    for name, key in parts.items():
        part = point if key is None else point[key]
        if not sum(jnp.size(leaf) for leaf in jax.tree.leaves(part)):
            continue
        length = float(tree.norm(part)) or 1.0
        for _ in range(count):
            drawn = jax.tree.map(lambda p: jnp.asarray(random.standard_normal(jnp.shape(p))), part)
            drawn = tree.scale(jnp.asarray(length / float(tree.norm(drawn))), drawn)
            yield name, drawn if key is None else tree.zeros_like(point) | {key: drawn}


def _check(
    along: Callable[[float], float], value: float, slope: float, accuracy: float
) -> tuple[float, float]:
    """The rate of the remainder, and the relative error of the slope; NaN where neither is."""
    sides = [
        np.array([abs(along(h) - value - h * slope) for h in side * _STEPS]) for side in (1, -1)
    ]
    floor = _NOISE_UNITS * accuracy * max(abs(value), np.finfo(np.float64).tiny)
    h = np.finfo(np.float64).eps ** (1 / 3)
    central = (along(h) - along(-h)) / (2 * h)
    relative = abs(central - slope) / (abs(central) or 1.0)
    # Where the function ends at the point there is no remainder, which is not to say that it is 0.
    if not np.isfinite(slope + sides[0][-1] + sides[1][-1]):
        return float("nan"), float("nan")
    # The mean of both: where the function bends little along the direction, a cubic term shows in
    # each, with opposite signs.
    rates = [rate for side in sides if np.isfinite(rate := _rate(side, floor))]
    return float(np.mean(rates)) if rates else float("inf"), relative


def _rate(remainders: np.ndarray, floor: float) -> float:
    """The order in which remainders fall; infinite where none stands clear of round-off."""
    telling = remainders > floor
    # The last steps whose remainder stands clear of round-off: there higher terms are smallest.
    pairs = np.flatnonzero(telling[:-1] & telling[1:] & np.isfinite(remainders[:-1]))
    if not pairs.size:
        return float("inf")
    last = pairs[-3:]
    return float(np.median(np.log2(remainders[last] / remainders[last + 1])))
