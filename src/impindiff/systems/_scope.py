"""What a function in a system may name, and what of it is known by now.

Fields, axes, the time, the system's coefficients, and the sample parameters: numbers that are known
for each sample and differ between samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from impindiff._errors import InputError, as_names
from impindiff._types import Scalar, State
from impindiff.coefficients import (
    AbstractClosure,
    Coarse,
    Instant,
    coefficients_of,
    evaluate_coefficients,
)
from impindiff.grid import Axis, Grid

T = TypeVar("T")

TIME = "t"


@final
class Scope(eqx.Module):
    """The names of a system and what is known of them by now.

    Attributes:
        grid: its axes' names are the coordinates of the cell centres.
        coefficients: those that the system names, evaluated as far as they can be.
        dtype: precision of the coordinates.
        time: the instant, whose number is `t`; None as long as only what is steady is wanted.
        origin: what times are counted from, see `Instant`; zero where None.
        coarse: of the steps, see `Instant`.
    """

    grid: Grid | None
    coefficients: dict[str, Any]
    dtype: jnp.dtype = eqx.field(static=True)
    time: Instant | None = None
    origin: Float[Array, " 3"] | None = None
    coarse: Coarse | None = eqx.field(static=True, default=None)

    def at(self, time: Scalar | Instant | None) -> "Scope":
        """The same at an instant, with all evaluated that does not depend on the state."""
        if time is not None and not isinstance(time, Instant):
            time = Instant(time, self.origin, self.coarse)
        scope = replace(self, time=time)
        return replace(scope, coefficients=scope.evaluate(self.coefficients))

    def evaluate(self, tree: T, state: Mapping[str, Any] | None = None) -> T:
        """A PyTree with its coefficients evaluated as far as is known, see `latent`."""
        return evaluate_coefficients(tree, self.grid, self.time, self.values(state))

    def values(self, state: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """All that has a name and is known."""
        known: dict[str, Any] = dict(state or {})
        if self.time is not None:
            known[TIME] = self.time.named
        if self.grid is not None:
            known |= zip(self.grid.names, _centres(self.grid, self.dtype), strict=True)
        # One may be a function of another: each pass finds at least one of those that can be found.
        for _ in self.coefficients:
            for name, coefficient in self.coefficients.items():
                if name in known:
                    continue
                value = evaluate_coefficients(coefficient, self.grid, self.time, known)
                if not coefficients_of(value):
                    known[name] = value
        return known


def _centres(grid: Grid, dtype: jnp.dtype) -> list[Array]:
    """Coordinates of every cell centre, an array of the grid's shape for each axis."""
    dtype, axes = jax.dtypes.canonicalize_dtype(dtype), range(grid.num_axes)
    # Copies: whoever is given one may donate it.
    return [
        jnp.broadcast_to(
            jnp.expand_dims(_along(axis, dtype), [k for k in axes if k != number]), grid.shape
        ).copy()
        for number, axis in enumerate(grid.axes)
    ]


@lru_cache(maxsize=64)
def _along(axis: Axis, dtype: jnp.dtype) -> Array:
    """Cell centres of one axis: the same array for every evaluation of a program.

    Arrays made anew would each become a constant of the program. How many of them there are would
    depend on what JAX has traced before, and a program kept from another run would not be found.
    """
    with jax.ensure_compile_time_eval():
        return jnp.asarray(axis.centres, dtype)


def initial_values(scope: Scope, initial: Mapping[str, Any]) -> State:
    """Initial values of some fields at an instant, one for each of their cells.

    Raises: InputError for values of another shape.
    """
    shape = () if scope.grid is None else scope.grid.shape
    found: State = {}
    for field, evaluated in scope.evaluate(dict(initial)).items():
        value = jnp.asarray(evaluated, scope.dtype)
        if value.shape not in ((), shape):
            raise InputError(
                f"the initial values of {field!r} have the shape {value.shape}: they must be one "
                f"number, or of the grid's shape {shape}."
            )
        found[field] = jnp.broadcast_to(value, shape)
    return found


def flux_name(field: str) -> str:
    """What the flux of a field is called among the names of a system."""
    return f"flux of {field}"


def extrema_within(tree: object, scope: Scope, dt: Array) -> Array:
    """Where in a step the coefficients in a PyTree have extrema, as they know themselves.

    Args:
        tree: holds coefficients.
        scope: at the start of the step.
        dt: length of the step.

    Returns: times since the start of the step; what is outside of it does not matter.
    """
    if scope.time is None or not (coefficients := coefficients_of(tree)):
        return jnp.zeros(0, dt.dtype)
    values = scope.values()
    found = [each.extrema_within(scope.time, dt, values) for each in coefficients]
    return jnp.asarray([moment for each in found for moment in each], dt.dtype)


def check_finite(scope: Scope, parts: Mapping[str, Any], state: State) -> None:
    """Refuse functions that are not finite at a state.

    Args:
        scope: at a time.
        parts: what is looked through, by where it stands.
        state: the fields.
    """
    known = scope.values(state)
    for whose, part in parts.items():
        for closure in coefficients_of(part):
            if not isinstance(closure, AbstractClosure):
                continue
            if any(name not in known for name in closure.arguments):
                continue  # a flux, which follows from fields that are looked at themselves
            # Values at faces are an array for each axis, and no two of them need be of one shape.
            for value in map(jnp.asarray, jax.tree.leaves(scope.evaluate(closure, state))):
                wild = np.argwhere(~np.isfinite(value))
                if not len(wild):  # of a single number it has no columns, and so no size
                    continue
                at = tuple(wild[0])
                arguments = {name: jnp.asarray(known[name]) for name in closure.arguments}
                where = ", ".join(
                    f"{name} = {float(arg[at[len(at) - arg.ndim :]]):g}"
                    if arg.ndim <= len(at)
                    else f"{name} is from {float(arg.min()):g} to {float(arg.max()):g}"
                    for name, arg in arguments.items()
                )
                raise InputError(
                    f"the function {closure.label} in {whose} is {value[at]} where {where}: it "
                    "must be finite wherever the state may be. Guard divisions, roots and "
                    "logarithms."
                )


def reached_names(coefficients: Mapping[str, Any]) -> dict[str, set[str]]:
    """For each coefficient the names of all that it depends on, by whatever way.

    Raises: InputError for coefficients that depend on each other in a circle.
    """
    reached = {name: _arguments(coefficient) for name, coefficient in coefficients.items()}
    for _ in reached:
        for names in reached.values():
            names.update(*(reached[name] for name in names & reached.keys()))
    if circle := sorted(name for name, names in reached.items() if name in names):
        raise InputError(
            f"the coefficients {', '.join(circle)} depend on each other in a circle: at least one "
            "must be given without the others."
        )
    return reached


def names_of_arguments(tree: object, coefficients: Mapping[str, Any]) -> set[str]:
    """The names of all that a PyTree of coefficients depends on, by whatever way."""
    names, reached = _arguments(tree), reached_names(coefficients)
    return names.union(*(reached[name] for name in names & reached.keys()))


def _arguments(tree: object) -> set[str]:
    closures = [node for node in coefficients_of(tree) if isinstance(node, AbstractClosure)]
    return {name for closure in closures for name in closure.arguments}


def varying_names(fields: tuple[str, ...], coefficients: Mapping[str, Any]) -> frozenset[str]:
    """The fields, and the coefficients that depend on them by whatever way.

    Raises: InputError for coefficients that depend on each other in a circle.
    """
    fluxes = {flux_name(field) for field in fields}
    return (
        frozenset(fields)
        | fluxes
        | {
            name
            for name, names in reached_names(coefficients).items()
            if names & {*fields, *fluxes}
        }
    )


def cast(tree: T, dtype: jnp.dtype) -> T:
    """The PyTree with its real arrays in one precision."""
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf, tree
    )


# Coordinates of every dataset, in which sample parameters, fields and integrals are variables.
TAKEN = ("sample", "time")


def parameter_names(parameters: str | Sequence[str]) -> tuple[str, ...]:
    """The names of sample parameters; a single one need not be in a list.

    Raises: InputError for what is no name, stands there twice, or is something else in a dataset.
    """
    names = as_names(parameters, "parameters of a system")
    for name in names:
        if not name.isidentifier() or name in TAKEN:
            raise InputError(
                f"parameters has {name!r}: give the names by which functions ask for them, such as "
                f"parameters=('T_gas',); {' and '.join(TAKEN)} are dimensions of the data."
            )
        if names.count(name) > 1:
            raise InputError(f"parameters has {name!r} twice: each has a name of its own.")
    return names


def as_parameters(
    names: Sequence[str], values: Mapping[str, Any], dtype: jnp.dtype | type = float
) -> dict[str, Float[Array, ""]]:
    """The values of one sample's parameters.

    Args:
        names: of all that the system has.
        values: by name, for some or all of them.
        dtype: precision.

    Raises: InputError for a name that is no sample parameter, or what is not one finite number.
    """
    if strange := sorted(set(values) - set(names)):
        raise InputError(
            f"{', '.join(strange)} is no sample parameter that the system misses: it has "
            f"{', '.join(names) or 'none'}. Name it in System(..., parameters=...)."
        )
    return {name: _number(name, value, dtype) for name, value in values.items()}


def check_parameters_known(missing: Sequence[str]) -> None:
    """Refuse to go on without sample parameters.

    Args:
        missing: names of those without a value.

    Raises: InputError, with both ways to give them.
    """
    if missing:
        example = ", ".join(f"{name!r}: ..." for name in missing)
        raise InputError(
            f"the system misses the sample parameter{'s' * (len(missing) > 1)} "
            f"{', '.join(missing)}: give those of one sample, "
            f"system.with_sample_parameters({{{example}}}), or fit and forecast samples of data "
            f"that hold them, dataset.assign({missing[0]}=('sample', [...]))."
        )


def _number(name: str, value: Any, dtype: jnp.dtype | type) -> Float[Array, ""]:
    try:
        number = jnp.asarray(value)
        if number.shape or number.dtype.kind not in "fiu":
            raise TypeError(f"{number.dtype} of shape {number.shape}")
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the sample parameter {name!r} is {value!r:.80}: it must be one real number "
            f"({error}). For many samples use jax.vmap, or fit and predict."
        ) from None
    if not isinstance(number, Tracer) and not np.isfinite(number):
        raise InputError(f"the sample parameter {name!r} is {value!r}: it must be finite.")
    return number.astype(dtype)
