"""Formulas of named things: of fields, positions, the time; and priors that are corrected."""

import functools
import inspect
import re
from collections.abc import Callable, Hashable, Iterable
from typing import Any, ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array

from impindiff._errors import InputError, blamed_on
from impindiff._types import Scalar, as_array, as_real, is_list_of_numbers
from impindiff.coefficients._coefficient import AbstractClosure, AbstractCoefficient, Values
from impindiff.coefficients._instant import ExactTime
from impindiff.coefficients._surroundings import values_around
from impindiff.grid import Grid

# What is said of an index that is no whole number.
_INDEX = re.compile("[Ii]ndex|indices")
# What JAX raises where Python or numpy asks a traced array for its numbers.
_NOT_TRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


@final
class HeldFunction(eqx.Module):
    """A function within a PyTree: its arrays, if it is a module, are leaves and the rest is not.

    Compiled programs are kept for a function and what it read from around it when it was given.
    """

    arrays: Any
    static: Any = eqx.field(static=True)
    around: tuple[Hashable, ...] = eqx.field(static=True)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.arrays, self.static = eqx.partition(function, eqx.is_array)
        self.around = values_around(function)

    @property
    def function(self) -> Callable[..., Any]:
        """The function."""
        return eqx.combine(self.arrays, self.static)


@final
class Closure(AbstractClosure):
    r"""A known function of named things, such as $D(u)$ or $k(T)$.

    `Closure(lambda porosity, T: porosity**1.5 * k(T))`: the names of the function's parameters say
    what it is given. They may be fields, axes (the coordinates of the cell centres), the time `t`,
    and coefficients that the system names. A plain function that stands in a system where a
    coefficient may stand becomes a closure by itself.

    Args:
        function: of arrays, cell by cell; written with `jax.numpy`. An equinox module is a known
            function, too: its arrays are not learned (see `NeuralClosure`).
        fields: names of what it is given, where its parameters do not say so.
        parts: further arguments by keyword, each a coefficient of any kind: numbers, arrays,
            latents, other functions.

    Shapes: returns one value, an array of the grid's shape, or several of them for a coefficient
        with components.
    Raises: InputError for a function whose parameters cannot be read, and, when evaluated, for a
        result of another shape.
    """

    held: HeldFunction
    parts: dict[str, Any]
    arguments: tuple[str, ...] = eqx.field(static=True)
    by_keyword: bool = eqx.field(static=True)

    def __init__(
        self, function: Callable[..., Any], fields: tuple[str, ...] | None = None, **parts: Any
    ) -> None:
        self.held = HeldFunction(function)
        self.parts = as_coefficients(parts)
        self.by_keyword = fields is None
        self.arguments = _parameters(function, parts) if fields is None else tuple(fields)

    @property
    def label(self) -> str:
        """See `AbstractClosure.label`."""
        return f"{name_of(self.held.function)}({', '.join(self.arguments)})"

    @property
    def defaults(self) -> dict[str, Any]:
        """See `AbstractClosure.defaults`. What `functools.partial` binds is no default."""
        function = self.held.function
        if not self.by_keyword:
            return {}
        bound = function.keywords if isinstance(function, functools.partial) else {}
        return {
            name: parameter.default
            for name, parameter in inspect.signature(function).parameters.items()
            if name not in {*self.arguments, *self.parts, *bound}
        }

    def evaluate(
        self, grid: Grid | None, time: Scalar | None = None, values: Values | None = None
    ) -> Array:
        """See `AbstractClosure.evaluate`."""
        known: Values = {} if values is None else values
        arguments = {name: known[name] for name in self.arguments}
        positional, named = ((), arguments) if self.by_keyword else (arguments.values(), {})
        try:
            # Errors of a time that is more than a number are those of whoever passed it.
            has_exact_time = any(isinstance(value, ExactTime) for value in arguments.values())
            but = (Exception,) if has_exact_time else _NOT_TRACEABLE
            with blamed_on(f"the function {self.label}", but):
                value = self._value(positional, named)
        except _NOT_TRACEABLE as error:
            raise InputError(
                f"the function {self.label} cannot be differentiated as it stands: write it with "
                "jax.numpy instead of numpy or math, with jnp.where instead of if, and without "
                f"float() ({str(error).splitlines()[0]})"
            ) from error
        return as_values(value, self.label, grid)

    def _value(self, positional: Iterable[Any], named: Values) -> Any:
        try:
            return self.held.function(*positional, **named, **self.parts)
        except (TypeError, IndexError) as error:
            if isinstance(error, _NOT_TRACEABLE) or not _INDEX.search(str(error)):
                raise
            raise InputError(
                f"the function {self.label} takes an index from what it is given, which are real "
                "numbers, those of whole numbers and truth values too: write k.astype(int) for an "
                f"index, k > 0 for a mask ({str(error).splitlines()[0]})"
            ) from error


def check_captured(tree: Any) -> None:
    """Refuse functions that hold an array being differentiated without having been given it.

    For what is solved implicitly: its derivative is that of its inputs, and such an array is none.
    Not what `jit` alone traces, of which nothing may be wanted but the value.

    Raises: InputError for the first in a PyTree.
    """
    for node in jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, Closure)):
        if isinstance(node, Closure):
            check_captured(node.parts)
            if names := _captured(node.held.function):
                raise InputError(
                    f"the function {node.label} uses {names[0]!r} from around it, which is being "
                    "differentiated: an implicit step has no derivative for what it has not been "
                    f"given. Pass it by keyword, Reaction(lambda c, {names[0]}: ..., "
                    f"{names[0]}={names[0]}), or by name, "
                    f"System(coefficients={{{names[0]!r}: {names[0]}}})."
                )


def _captured(function: Any) -> list[str]:
    """Names of the variables around a plain function that are being differentiated."""
    cells = getattr(function, "__closure__", None) or ()
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    found = []
    for name, cell in zip(names, cells, strict=False):
        try:
            content = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        if any(map(_is_differentiated, jax.tree.leaves(content))):
            found.append(name)
    return found


def _is_differentiated(leaf: Any) -> bool:
    if not isinstance(leaf, Tracer):
        return False
    # JAX has no public names for these.
    inner = getattr(leaf, "val", None)
    return type(leaf).__name__ in ("JVPTracer", "LinearizeTracer") or _is_differentiated(inner)


def as_closures(tree: Any, into: tuple[type, ...] = ()) -> Any:
    """A PyTree in which plain functions have become closures.

    Those inside modules, as the activation of a network, are theirs, and stay as they are.

    Args:
        tree: of coefficients, or one module that is looked into.
        into: kinds of modules within it that are looked into, too.
    """

    def visit(node: Any) -> Any:
        if callable(node) and not isinstance(node, eqx.Module | type):
            return Closure(node)
        return node

    def is_whole(node: Any) -> bool:
        return node is not tree and isinstance(node, eqx.Module) and not isinstance(node, into)

    return jax.tree.map(visit, tree, is_leaf=is_whole)


def as_coefficients(tree: Any) -> Any:
    """A PyTree of coefficients: functions have become closures, and all numbers real ones.

    A list of numbers has become an array.
    """

    def is_whole(node: Any) -> bool:
        return is_list_of_numbers(node) or isinstance(node, eqx.Module)

    return as_closures(jax.tree.map(as_real, tree, is_leaf=is_whole))


def as_values(value: Any, label: str, grid: Grid | None) -> Array:
    """What a function returned, as an array.

    Raises: InputError for what is no array of numbers, or of a shape that no coefficient has.
    """
    if isinstance(value, ExactTime):
        value.refuse()
    try:
        if isinstance(value, tuple | list):
            value = jnp.stack(jnp.broadcast_arrays(*value))
        value = as_array(value)
        if jnp.iscomplexobj(value):
            raise TypeError("it is complex")
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the function {label} returns {type(value).__name__}: it must return a number or an "
            f"array of numbers ({error})."
        ) from error
    if grid is not None:
        shape, cells = value.shape, grid.shape
        uniform = len(shape) <= 1 and value.size in (1, len(cells))
        if not uniform and shape not in (cells, (*shape[:1], *cells)):
            raise InputError(
                f"the function {label} returns an array of shape {shape} on a grid of shape "
                f"{cells}: it must return one value for each cell. Use jax.numpy cell by cell, "
                "without sums over cells."
            )
    return value


def name_of(function: Callable[..., Any]) -> str:
    """A function's name, for messages."""
    return getattr(function, "__name__", type(function).__name__)


def _parameters(function: Callable[..., Any], parts: dict[str, Any]) -> tuple[str, ...]:
    """The names of the parameters that are not given by keyword and have no default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        parameters = ()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    if not parameters or any(parameter.kind not in kinds for parameter in parameters):
        raise InputError(
            f"the parameters of the function {name_of(function)} do not say what it is a function "
            'of: name them, Closure(function, fields=("u", "v")).'
        )
    if strange := set(parts) - {parameter.name for parameter in parameters}:
        raise InputError(
            f"the function {name_of(function)} has no parameter {', '.join(sorted(strange))}; it "
            f"has {', '.join(parameter.name for parameter in parameters)}."
        )
    wanted = (p for p in parameters if p.default is inspect.Parameter.empty)
    return tuple(parameter.name for parameter in wanted if parameter.name not in parts)


@final
class Corrected(AbstractCoefficient):
    r"""A known prior times a learned correction, $p\,e^{c}$, which never changes its sign.

    Args:
        prior: $p$: a number, an array, a function, any coefficient.
        correction: $c$: a latent that starts at or near zero. A `NeuralClosure` without bounds does
            by itself; give a `SineField` an `output_range` around zero.
    """

    prior: Any
    correction: Any
    is_local: ClassVar[bool] = True

    def __init__(self, prior: Any, correction: Any) -> None:
        self.prior, self.correction = map(as_coefficients, (prior, correction))

    @property
    def is_steady(self) -> bool:
        """As steady as its parts, which are evaluated first."""
        return True

    def evaluate(self, grid: Grid | None, time: Scalar | None = None) -> Array:
        """See `AbstractCoefficient.evaluate`."""
        return jnp.asarray(self.prior) * jnp.exp(self.correction)
