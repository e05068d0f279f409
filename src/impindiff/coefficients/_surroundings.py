"""What a function reads from around it: numbers of the script, and those of the object it is of.

A compiled program holds them as they were. A system that is built after one of them was changed is
another system, although its functions are the same objects: so it says what they were.
"""

import functools
import hashlib
import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping
from types import CodeType, FunctionType, SimpleNamespace
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.core import Tracer

# Beyond these sizes values are not read: a function of so many is not changed by hand.
_NUMBERS, _ENTRIES, _DEPTH = 1_000_000, 100, 4


def values_around(function: Callable[..., Any]) -> tuple[Hashable, ...]:
    """What a function would compute with today, apart from its arguments.

    Args:
        function: plain, bound, partial or an object that is called.

    Returns: something that compares equal as long as no variable around the function, of helpers in
        the same file, or attribute of the object that it belongs to has another value. Numbers,
        text, arrays and collections of these count; arrays that JAX traces, modules and classes do
        not.
    """
    if isinstance(function, eqx.Module):  # its attributes are those of the PyTree
        return ()
    return tuple(_of(function, set(), 0))


def _of(thing: Any, seen: set[int], depth: int) -> Iterator[Hashable]:
    """What one thing contributes; nothing that is twice on the way, or too deep."""
    if thing is None or isinstance(thing, bool | int | float | complex | str | bytes):
        yield type(thing).__name__, repr(thing)
        return
    if depth > _DEPTH or id(thing) in seen or isinstance(thing, Tracer):
        return
    seen.add(id(thing))
    if isinstance(thing, np.ndarray | np.generic | jax.Array):
        yield from _of_array(thing)
    elif isinstance(thing, eqx.Module):
        for leaf in jax.tree.leaves(thing):
            yield from _of(leaf, seen, depth + 1)
    elif isinstance(thing, FunctionType):
        yield thing
        for name, value in _variables(thing):
            yield name, *_of(value, seen, depth + 1)
    elif isinstance(thing, functools.partial):
        yield from _of((thing.func, thing.args, thing.keywords), seen, depth)
    elif inspect.ismethod(thing):
        yield from _of((thing.__func__, thing.__self__), seen, depth)
    elif isinstance(thing, Mapping | tuple | list):
        parts = thing.items() if isinstance(thing, Mapping) else enumerate(thing)
        if len(thing) <= _ENTRIES:
            for name, value in parts:
                yield repr(name), *_of(value, seen, depth + 1)
    elif _is_plain(thing):
        yield from _of(dict(vars(thing)), seen, depth)


def _of_array(array: Any) -> Iterator[Hashable]:
    kinds = np.number, np.bool_
    if array.size <= _NUMBERS and any(jax.numpy.issubdtype(array.dtype, kind) for kind in kinds):
        digest = hashlib.blake2b(np.asarray(array).tobytes()).hexdigest()
        yield str(array.dtype), array.shape, digest


def _is_plain(thing: Any) -> bool:
    """Whether it is an object of a class that is written in Python."""
    kind = type(thing)
    if isinstance(thing, type) or not hasattr(thing, "__dict__"):
        return False
    return kind is SimpleNamespace or isinstance(getattr(kind, "__init__", None), FunctionType)


def _variables(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """The variables of a function's own file that it, or a function within it, names."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for name in sorted(_names(function.__code__)):
        if name in function.__globals__:
            value = function.__globals__[name]
            of_elsewhere = getattr(value, "__globals__", function.__globals__)
            if of_elsewhere is function.__globals__:
                yield name, value


def _names(code: CodeType) -> set[str]:
    inner = (_names(each) for each in code.co_consts if isinstance(each, CodeType))
    return set(code.co_names).union(*inner)
