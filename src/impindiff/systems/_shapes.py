"""Arrays of too few axes, which numbers of cells alone would make fit.

Of an array of shape `(4,)` on a grid of shape `(4, 4)` nothing says along which axis it varies. To
numpy it is the last one. On a grid of other numbers of cells there would be an error.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from impindiff._errors import InputError
from impindiff._types import is_list_of_numbers
from impindiff.coefficients import Closure, coefficients_of
from impindiff.grid import Grid
from impindiff.systems._scope import TIME

_Arrays = Mapping[str, Any]


def check_shape(grid: Grid | None, what: str, value: Any) -> None:
    """Refuse an array of another shape than the grid's; what is no array passes.

    Args:
        grid: where; without one nothing is refused.
        what: how messages call it.
        value: a coefficient.

    Raises: InputError.
    """
    is_array = isinstance(value, np.ndarray | jax.Array) or is_list_of_numbers(value)
    if grid is None or not is_array or np.shape(value) in ((), grid.shape):
        return
    raise InputError(
        f"{what}: the array has the shape {np.shape(value)}, the grid {grid.shape}. Give one "
        f"number, or a value for each cell.{'' if grid.num_axes == 1 else _along_one_axis(grid)}"
    )


def check_promotion(
    grid: Grid | None,
    fields: tuple[str, ...],
    coefficients: Mapping[str, Any],
    parameters: tuple[str, ...],
    named_parts: Mapping[str, Any],
) -> None:
    """Refuse coefficients of too few axes where a function spreads them over the cells.

    Not those that it makes something else of, as a table to look up, or spreads along an axis that
    it names, `profile[:, None]`.

    Args:
        grid: of the system, as for all that follow.
        fields: their names.
        coefficients: by name.
        parameters: their names.
        named_parts: what holds functions, by what messages call it.

    Raises: InputError for the first.
    """
    suspects = {name: u for name, u in coefficients.items() if _is_ambiguous(grid, u)}
    if grid is None or not suspects:
        return
    cells, number = (jax.ShapeDtypeStruct(s, jnp.result_type(float)) for s in (grid.shape, ()))
    known = dict.fromkeys((*fields, *grid.names), cells) | dict.fromkeys(
        (*parameters, TIME), number
    )
    for name, value in coefficients.items():
        known[name] = cells if coefficients_of(value) else value
    for whose, part in named_parts.items():
        for closure in coefficients_of(part):
            if not isinstance(closure, Closure) or not suspects.keys() & set(closure.arguments):
                continue
            if guilty := _spread(grid, closure, known, suspects):
                shape = np.shape(suspects[guilty])
                raise InputError(
                    f"the function {closure.label} in {whose} spreads the coefficient {guilty!r} "
                    f"of shape {shape} over the cells of a grid of shape {grid.shape}, along its "
                    "last axes: a coefficient must be one number or have a value for each cell."
                    f"{_along_one_axis(grid)}"
                )


def _along_one_axis(grid: Grid) -> str:
    first, others = grid.names[0], ", None" * (grid.num_axes - 1)
    return (
        f" What varies along {first} alone is a function of it, lambda {first}: ..., or "
        f"np.broadcast_to(array[:{others}], grid.shape)."
    )


def _is_ambiguous(grid: Grid | None, value: Any) -> bool:
    if grid is None or not isinstance(value, np.ndarray | jax.Array):
        return False
    shape = np.shape(value)
    return 0 < len(shape) < grid.num_axes and shape == grid.shape[-len(shape) :]


def _spread(grid: Grid, closure: Closure, known: _Arrays, suspects: _Arrays) -> str | None:
    """The suspect that a function spreads over the cells."""
    arguments = {name: known.get(name) for name in closure.arguments}
    if any(value is None for value in arguments.values()):
        return None  # a flux
    mine = {name: u for name, u in suspects.items() if name in arguments}
    expanded = {n: np.expand_dims(u, tuple(range(grid.num_axes - u.ndim))) for n, u in mine.items()}
    # With as many axes as the grid nothing is spread without a word: if that alone helps, it was.
    if not _is_promoting(closure, arguments) or _is_promoting(closure, arguments | expanded):
        return None
    for name in mine:
        others = {n: u for n, u in expanded.items() if n != name}
        if _is_promoting(closure, arguments | others):
            return name
    return next(iter(mine))


def _is_promoting(closure: Closure, arguments: _Arrays) -> bool:
    """Whether a function fails as soon as arrays of different numbers of axes are combined."""
    traced = {n: u for n, u in arguments.items() if isinstance(u, jax.ShapeDtypeStruct)}
    fixed = {n: u for n, u in arguments.items() if n not in traced}

    def call(given: _Arrays) -> Any:
        return closure.evaluate(None, None, fixed | dict(given))

    try:
        with jax.numpy_rank_promotion("raise"):
            jax.eval_shape(call, traced)
    except Exception:  # of a user's function, which is called as it will be later
        return True
    return False
