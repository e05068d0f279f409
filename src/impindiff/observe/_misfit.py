"""How far predictions are from observations: what training minimises and what evaluation reports.

NaN in observations means "not observed": such cells count neither as error nor as data.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import Scalar, State


def squared_misfit(
    predicted: State, observed: State, scale: dict[str, Scalar] | None = None
) -> Scalar:
    r"""Relative squared misfit, averaged over fields.

    $\frac1F \sum_f \sum_o (p_o - d_o)^2 / \sum_o d_o^2$ over the observed entries $o$ of each
    field $f$; a field observed as zero everywhere is not scaled.

    Args:
        predicted: for each field an array; may hold fields that are not observed.
        observed: arrays of the same shapes, NaN where not observed.
        scale: `squared_scale` of all observations, where these are a part of them: the misfits of
            the parts then add up to that of all.

    Raises: InputError where no field is observed, or one is not predicted in its observations'
        shape.
    """
    if not observed:
        raise InputError("there is no observed field to compare predictions with.")
    for field, data in observed.items():
        if field not in predicted or predicted[field].shape != data.shape:
            found = {name: values.shape for name, values in predicted.items()}
            raise InputError(
                f"the observations of {field!r} have shape {data.shape}, the predictions {found}: "
                "observe what is predicted, in the same shape."
            )
    total = jnp.zeros((), jnp.result_type(*observed.values()))
    for field, data in observed.items():
        seen = ~jnp.isnan(data)
        known = jnp.where(seen, data, 0)
        # The difference is masked before it is squared: the gradient of a masked NaN would be NaN.
        error = jnp.where(seen, predicted[field] - known, 0)
        total += (
            jnp.sum(error**2) / (squared_scale({field: data}) if scale is None else scale)[field]
        )
    return total / len(observed)


def squared_scale(observed: State) -> dict[str, Scalar]:
    r"""$\sum_o d_o^2$ over the observed entries of each field, or 1 where that is zero."""

    def scale(data: Array) -> Scalar:
        total = jnp.sum(jnp.where(jnp.isnan(data), 0, data) ** 2)
        return jnp.where(total == 0, 1, total)

    return {field: scale(data) for field, data in observed.items()}


def relative_error(
    predicted: Float[np.ndarray, "..."] | Array,
    truth: Float[np.ndarray, "..."] | Array,
    order: int,
    num_axes: int,
) -> Float[np.ndarray, "..."]:
    r"""$\lVert p - d \rVert_q / \lVert d \rVert_q$ over the last `num_axes` axes, in float64.

    Args:
        predicted: predicted values.
        truth: true values of the same shape, NaN where not known.
        order: $q$, 1 or 2.
        num_axes: how many trailing axes are the space axes.

    Where the truth is zero everywhere the error is infinite, or zero if the prediction is zero too.
    """
    truth = np.asarray(truth, np.float64)
    seen = ~np.isnan(truth)
    known = np.where(seen, truth, 0)
    error = np.where(seen, np.asarray(predicted, np.float64) - known, 0)
    axes = tuple(range(-num_axes, 0))
    above = (np.abs(error) ** order).sum(axes) ** (1 / order)
    below = (np.abs(known) ** order).sum(axes) ** (1 / order)
    unscaled = np.where(above == 0, 0.0, np.inf)
    return np.where(below == 0, unscaled, above / np.where(below == 0, 1, below))
