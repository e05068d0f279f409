"""In which precision numbers are computed and learned.

JAX computes in single precision unless `jax_enable_x64` is set. What is learned follows that unless
it is told otherwise; fits and forecasts follow the data within it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import DTypeLike

from impindiff._errors import InputError


def real_precision(dtype: DTypeLike | None = None) -> jnp.dtype:
    """The precision asked for, if it can be computed in; JAX's default where none is.

    Raises: InputError for float64 where JAX would take float32 instead, or what is not real.
    """
    if dtype is None:
        return jnp.dtype(jnp.result_type(float))
    try:
        found = jnp.dtype(dtype)
    except TypeError:
        raise InputError(
            f"dtype is {dtype!r}: computations are in float32 or float64, such as "
            "dtype=jnp.float32. Leave it out for JAX's default."
        ) from None
    if found not in (np.float32, np.float64):
        raise InputError(f"dtype is {found}: computations are in float32 or float64.")
    if jax.dtypes.canonicalize_dtype(found) != found:
        raise InputError(
            f"dtype is {found}, but JAX computes in single precision unless it is told otherwise, "
            'before any array is made: jax.config.update("jax_enable_x64", True). Or leave dtype '
            "out, for float32."
        )
    return found
