"""Reactions: rates that are plain functions of the state."""

from collections.abc import Callable
from typing import Any

from impindiff.coefficients import AbstractCoefficient, Closure
from impindiff.terms import Source


def Reaction(
    function: Callable[..., Any] | AbstractCoefficient,
    fields: tuple[str, ...] | None = None,
    **parts: Any,
) -> Source:
    r"""A rate of production that depends on the state, $r(u, v, \dots)$ per volume and time.

    A source whose strength is a closure. `Reaction(lambda u, v, rate: -rate * u * v,
    rate=Parameter("rate", 1.0, (0.0, 5.0)))`: `u` and `v` are fields of the system and `rate` is
    given with it. What several equations share is given once, `System(..., coefficients={"rate":
    ...})`.

    One that is affine in its own field alone, cell by cell, as $-k\,c$ or $k\,(c_0 - c)$, leaves a
    system on a grid affine: its slope stands in the stencil, and a step is one linear solve.

    Args:
        function: of fields and more, cell by cell, see `Closure`; written with `jax.numpy`. Or a
            `NeuralClosure`, where the whole rate is unknown.
        fields: names of what it is given, where its parameters do not say so.
        parts: further arguments by keyword, each a coefficient of any kind.
    """
    if isinstance(function, AbstractCoefficient):
        return Source(function)
    return Source(Closure(function, fields, **parts))
