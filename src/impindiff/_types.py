"""What travels between the floors: states, the right-hand sides that move them, and real numbers.

Where a real number may stand, so may a whole number or a truth value, see `as_real`.
"""

import abc
from collections.abc import Mapping
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

Scalar = Float[Array, ""]
"""A real number that may be traced."""

State = dict[str, Float[Array, "..."]]
"""Named fields at one instant; each an array of the grid's shape."""

GivenState = Mapping[str, Any]
"""Named fields as users give them: arrays or numbers of any type, see `real_state`."""

Vector = PyTree[Float[Array, "..."]]
"""Anything a solver can treat as one long vector: a PyTree of real arrays."""


class AbstractTendency(eqx.Module):
    r"""The right-hand side of $\frac{d}{dt}\,q(u) = F(u)$ at one instant, coefficients evaluated.

    Only `__call__` has to be written. Where the other members are left as they are, a system has no
    storage but the fields themselves, and its coefficients are found by products. A subclass
    overrides them by properties, or by fields with `eqx.field()`.

    Attributes:
        has_storage: whether $q$ is another function than $u$.
        algebraic: the fields without storage, whose equation is $F(u) = 0$.
        scales: typical magnitudes of fields, as far as known.
        integrals: names of what no other field depends on, see `impindiff.integrate`.
        grid: the `impindiff.grid.Grid` on which all fields live, if there is one.
        mode_kinds: for each field what each axis ends in, see `impindiff.precondition.Fourier`;
            None for a field that does not move through faces.
        stencils: for each field the `impindiff.linear.Stencil` of what it does to itself, None for
            a field without one; None altogether where that is found by products. Needs a grid.
        linear_part: a right-hand side with stencils that is like this one, where fluxes of this one
            reach beyond face neighbours.
    """

    # Without annotations: annotated, they would stand in the order of a subclass's fields.
    has_storage = False
    algebraic = cast(tuple[str, ...], ())
    scales = cast(Mapping[str, float], {})
    integrals = cast(tuple[str, ...], ())
    grid = cast(Any, None)
    mode_kinds = cast(Mapping[str, Any], {})
    stencils = cast(Mapping[str, Any] | None, None)
    linear_part = cast(Any, None)

    @abc.abstractmethod
    def __call__(self, state: State) -> State:
        """$F(u)$, the rate of change of every field."""

    def stored(self, state: State) -> State:
        """$q(u)$, what is stored of every field; zero where that is algebraic."""
        return state


def without_mask(value: Any) -> Any:
    """A masked array with NaN in place of what is masked; everything else as it is.

    Libraries that read files give such arrays. The numbers behind a mask are no data.
    """
    if not isinstance(value, np.ma.MaskedArray):
        return value
    if not np.ma.is_masked(value):
        return value.data
    return np.ma.filled(value.astype(np.result_type(value.dtype, np.float32)), np.nan)


def as_real(value: Any) -> Any:
    """Whole numbers and truth values as real ones; everything else as it is.

    Here, before whole-number arithmetic, which overflows and has no fractions, or the sum of two
    truth values, 1 + 1 = 1, could make something else of them.

    Arrays, of JAX and of numpy, become real in JAX's default precision, and so do numpy's scalars
    and lists of numbers; a truth value of Python becomes 0.0 or 1.0. A whole number of Python
    stays: it takes the precision of whatever it meets, and as an exponent it is exact.
    """
    value = without_mask(value)
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iufb":
        value = value[()]
    if isinstance(value, np.generic):
        # Python's own numbers leave the precision to what they meet.
        return value.item() if value.dtype.kind in "iuf" else as_real(value.item())
    if isinstance(value, list | tuple) and is_list_of_numbers(value):
        value = np.asarray(value)
    if isinstance(value, jax.Array | np.ndarray) and value.dtype.kind in "iub":
        return value.astype(jnp.result_type(float))
    return value


def is_list_of_numbers(value: Any) -> bool:
    """Whether something is a list, or lists of equal length, of nothing but numbers."""
    if not isinstance(value, list | tuple) or not value:
        return False
    if all(isinstance(part, list | tuple) for part in value):
        lengths = {len(part) for part in value}
        return len(lengths) == 1 and all(map(is_list_of_numbers, value))
    return all(isinstance(part, bool | int | float | np.generic) for part in value)


def as_array(value: Any) -> Array:
    """Numbers of any type as a real array; Python's own take the precision of what they meet."""
    value = as_real(value)
    return jnp.asarray(float(value) if isinstance(value, int) else value)


def real_state(state: GivenState) -> dict[str, Array]:
    """Fields as arrays, those of whole numbers and truth values in the precision of the others.

    In JAX's default precision where there are no others. Numbers of half precision are treated as
    whole numbers are: nothing is computed in it.
    """
    fields = {name: jnp.asarray(without_mask(value)) for name, value in state.items()}
    real = [u.dtype for u in fields.values() if not _is_lifted(u.dtype)]
    dtype = jnp.result_type(*real) if real else jnp.result_type(float)
    return {n: u.astype(dtype) if _is_lifted(u.dtype) else u for n, u in fields.items()}


def _is_lifted(dtype: jnp.dtype) -> bool:
    is_half = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
    return dtype.kind in "iub" or is_half
