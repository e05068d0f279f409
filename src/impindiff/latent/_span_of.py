"""The times that fields are wanted for, held against the times that they are used at."""

import jax
import numpy as np
from jaxtyping import PyTree

from impindiff._errors import InputError
from impindiff.latent._coordinates import Span
from impindiff.latent._field import AbstractLatent, latents_of

# Of a span: times that went through float32 may be a little off.
_ROUND_OFF = 1e-5


def _slack(span: Span) -> float:
    most = np.float32(max(abs(span.first), abs(span.last)))
    return max(_ROUND_OFF * (span.last - span.first), 2 * float(np.spacing(most)))


def check_spans(tree: PyTree, first: float, last: float, what: str) -> None:
    """Refuse fields whose span leaves out times that they are to be used at.

    Beyond its span a polynomial grows without bounds, and what a network gives is nothing learned.

    Args:
        tree: holds the learned fields.
        first: the first time.
        last: the last time.
        what: what happens at these times, for messages: "training".

    Raises: InputError for the first such field, with both spans and what to write.
    """
    for latent in latents_of(tree):
        span = span_of(latent)
        if span is None:
            continue
        slack = _slack(span)
        if first < span.first - slack or last > span.last + slack:
            low, high = min(first, span.first), max(last, span.last)
            raise InputError(
                f"the field {', '.join(latent.names)} has the time span ({span.first:.10g}, "
                f"{span.last:.10g}), but {what} goes from t = {first:.10g} to {last:.10g}, and "
                f"beyond its span it means nothing. Build it with span=({low:.10g}, {high:.10g}), "
                f"forecasts included, or keep {what} within its span."
            )


def span_of(latent: AbstractLatent) -> Span | None:
    """The span of a field that varies in time; None of anything else."""
    own = getattr(latent, "span", None)
    nodes = [own, *jax.tree.leaves(latent, is_leaf=lambda node: isinstance(node, Span))]
    return next((node for node in nodes if isinstance(node, Span)), None)
