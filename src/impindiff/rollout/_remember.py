"""What was found of a system once, and need not be found again in the next call.

To look at a system of few unknowns before a rollout takes longer than the rollout. Only for systems
that cannot change: JAX's arrays do not, NumPy's may.
"""

import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import jax
from jax.core import Tracer

from impindiff.integrate import AbstractSystem

T = TypeVar("T")

# Of each system that is still in use, by its identity, for it has no hash: what was found last, and
# of what.
_FOUND: dict[int, tuple[weakref.ref, Hashable, Any]] = {}


def remember(system: AbstractSystem, of: Hashable, find: Callable[[], T]) -> T:
    """What `find` gives, or has given in the last call for the same system.

    Args:
        system: the equations.
        of: all else that the result depends on.
        find: finds it, or raises. Its result must not hold the system itself, which would then be
            held for ever.
    """
    number = id(system)
    if number in _FOUND:
        of_system, before, result = _FOUND[number]
        if of_system() is system and before == of:
            return result
    result = find()
    if all(map(_cannot_change, jax.tree.leaves(system))):
        held = weakref.ref(system, lambda _: _FOUND.pop(number, None))
        _FOUND[number] = held, of, result
    return result


def _cannot_change(leaf: Any) -> bool:
    is_array = isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer)
    return is_array or isinstance(leaf, bool | int | float | str)
