"""What becomes of a rollout after a step that failed: an error, NaN, or states to be looked at."""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool

from impindiff._errors import InputError
from impindiff._types import State
from impindiff.implicit import Outcome

OnFailure = Literal["raise", "nan", "keep"]
"""What `simulate` does at a failed step; see there."""


def check_on_failure(on_failure: Any) -> None:
    """Refuse another word.

    Raises: InputError.
    """
    if on_failure not in get_args(OnFailure):
        raise InputError(
            f"on_failure is {on_failure!r}: give 'raise', 'nan' or 'keep' (the states as the "
            "failed solve left them, with the outcome of every step beside them)."
        )


def is_known(outcome: Outcome) -> bool:
    """Whether the outcome of a rollout can be looked at, as it cannot be while it is traced."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(outcome))


def nan_unless(good: Bool[Array, ""], state: State) -> State:
    """The state, and NaN in all of its fields where a step that leads to it has failed.

    A product and not a selection: of a selection the gradient by what led to a failed step would
    be zero, and look like one. Where all is well the factor is 1, and no digit changes.
    """
    return jax.tree.map(lambda u: u * jnp.where(good, 1, jnp.nan).astype(u.dtype), state)


def nan_like(root: State | None, state: State) -> State:
    """The state, and NaN where a root that is known already is the NaN of a failed step.

    For the way back, which solves nothing again and so sees no failure: a loss that is linear in
    the states would get a finite gradient of NaN.
    """
    leaves = jax.tree.leaves(root)
    if not leaves:
        return state
    return nan_unless(~jnp.isnan(leaves[0].ravel()[0]), state)
