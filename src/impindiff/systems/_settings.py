"""Settings: numbers that are known for each sample, and differ between samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from impindiff._errors import InputError

# Coordinates of every dataset, in which settings, fields and integrals are variables.
TAKEN = ("sample", "time")


def setting_names(given: str | Sequence[str]) -> tuple[str, ...]:
    """The names of settings; a single one need not be in a list.

    Raises: InputError for what is no name, stands there twice, or is something else in a dataset.
    """
    names = (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        if not isinstance(name, str) or not name.isidentifier() or name in TAKEN:
            raise InputError(
                f"parameters has {name!r}: give the names by which functions ask for them, such as "
                f"parameters=('T_gas',); {' and '.join(TAKEN)} are dimensions of the data."
            )
        if names.count(name) > 1:
            raise InputError(f"parameters has {name!r} twice: each has a name of its own.")
    return names


def checked_settings(
    names: Sequence[str], values: Mapping[str, Any], dtype: jnp.dtype | type = float
) -> dict[str, Float[Array, ""]]:
    """What is given for the settings of one sample.

    Args:
        names: the settings that there are.
        values: by name, for some or all of them.
        dtype: precision.

    Raises: InputError for a name that is no setting, or what is not one finite number.
    """
    if strange := sorted(set(values) - set(names)):
        raise InputError(
            f"{', '.join(strange)} is no setting that the system waits for: it has "
            f"{', '.join(names) or 'none'}. Name it in System(..., parameters=...)."
        )
    return {name: _number(name, value, dtype) for name, value in values.items()}


def check_given(awaited: Sequence[str]) -> None:
    """Refuse to go on without settings.

    Raises: InputError, with both ways to give them.
    """
    if awaited:
        example = ", ".join(f"{name!r}: ..." for name in awaited)
        raise InputError(
            f"the system waits for the setting{'s' * (len(awaited) > 1)} {', '.join(awaited)}, "
            f"known for each sample: give those of one, system.with_settings({{{example}}}), or "
            "fit and forecast samples of data that hold them, "
            f"dataset.assign({awaited[0]}=('sample', [...]))."
        )


def _number(name: str, value: Any, dtype: jnp.dtype | type) -> Float[Array, ""]:
    try:
        number = jnp.asarray(value)
        if number.shape or number.dtype.kind not in "fiu":
            raise TypeError(f"{number.dtype} of shape {number.shape}")
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the setting {name!r} is {value!r:.80}: it must be one real number ({error}). For "
            "many samples use jax.vmap, or fit and predict."
        ) from None
    if not isinstance(number, Tracer) and not np.isfinite(number):
        raise InputError(f"the setting {name!r} is {value!r}: it must be finite.")
    return number.astype(dtype)
