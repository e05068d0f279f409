r"""Coefficients of the wrong sign: for these a system of equations has no solution that means much.

With a negative diffusivity differences grow, the faster the finer the grid, and so they do with a
negative capacity. Any one step of it is a set of equations like any other: it has a solution, whose
numbers are finite and mean nothing.

What is known before a rollout, as it depends on the place, the time and parameters alone, is looked
at before it. What depends on the state is looked at where a step ends. An implicit step is a set of
equations that may have several solutions: with $D = 2 u$ one of them has cells below zero, where
diffusion runs backwards, and to a solver it is as good as any other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from impindiff._errors import InputError
from impindiff._types import Scalar, State
from impindiff.coefficients import AbstractClosure, coefficients_of, depends_on
from impindiff.grid import SIDES, Grid
from impindiff.integrate import Bounds, BoundsViolation
from impindiff.latent import AbstractLatent, latents_of
from impindiff.systems._outer_faces import End, Ends, evaluate_beside, select_fluxes
from impindiff.systems._scope import TIME, Scope, names_of_arguments
from impindiff.terms import AbstractTerm, cells_at

# What a solve leaves over, and round-off, are no roots of their own.
_SMALLEST_SHARE = 1e-6
# Values that are looked at before a rollout, and of these at once: of long rollouts on large grids
# not every time, but times all along it.
_MOST_VALUES, _MOST_AT_ONCE = 10_000_000, 1_000_000

DIFFUSIVITY = "the diffusivity"
_RANGE = "or give what is learned bounds, as in Parameter(name, initial, (0.0, float('inf')))"


@final
@dataclass(frozen=True)
class Signed:
    """A coefficient that must not be negative.

    Attributes:
        field: in whose equation it stands.
        kind: what it is, such as "the diffusivity".
        where: of what, for messages.
        value: as far as it is known.
        reason: why it must not be negative, and the way out.
        may_vanish: whether it may be zero.
        end: of an axis, where it stands in a condition.
        number: among those of its condition.
    """

    field: str
    kind: str
    where: str
    value: Any
    reason: str
    may_vanish: bool = True
    end: End | None = None
    number: int = 0

    def evaluated(self, scope: Scope, state: State | None = None) -> "Signed":
        """The same with its value, as far as that is known."""
        if not coefficients_of(self.value):
            return self
        if self.end is None:
            return replace(self, value=scope.evaluate(self.value, state))
        return replace(self, value=evaluate_beside(scope, self.end, self.value, state))

    @property
    def is_evaluated(self) -> bool:
        """Whether it is a number or an array."""
        return not coefficients_of(self.value)

    @property
    def is_traced(self) -> bool:
        """Whether it is an array whose numbers are not known while it is traced."""
        return isinstance(self.value, Tracer)

    @property
    def is_kept_right(self) -> bool:
        """Whether it is learned within bounds that leave it no wrong sign."""
        lower = self.value.lower_bound if isinstance(self.value, AbstractLatent) else -np.inf
        return lower > 0 or (lower == 0 and self.may_vanish)

    def depends_on(self, names: frozenset[str]) -> bool:
        """Whether it is a function of one of these."""
        return depends_on(self.value, names)

    def lowest(self, grid: Grid | None, floor: Scalar | float = 0.0) -> "Lowest":
        """Where it is lowest, and whether it is too low there, beyond round-off.

        Compared with the largest one, and with a floor below which all are round-off. Nothing in
        solid cells counts, nor what is not a number, which fails otherwise.
        """
        value = jax.lax.stop_gradient(jnp.asarray(self.value))
        value = value.astype(jnp.result_type(value, jnp.float32))
        solid = None if grid is None else grid.solid
        if solid is not None:
            if self.end is not None:
                beside = solid[cells_at(self.end.grid, self.end.axis, self.end.side)]
                solid = np.squeeze(beside, self.end.axis)
            if value.shape in ((), solid.shape):
                value = jnp.where(solid, jnp.inf, value)
        value = jnp.where(jnp.isnan(value), jnp.inf, value)
        share = max(_SMALLEST_SHARE, float(jnp.finfo(value.dtype).eps) ** 0.5)
        finite = jnp.where(jnp.isfinite(value), jnp.abs(value), 0)
        scale = jnp.maximum(finite.max(initial=0), floor)
        cell = jnp.argmin(value)
        least = value.ravel()[cell]
        wrong = least < -share * scale if self.may_vanish else least <= 0
        return Lowest(cell, least, wrong)

    def message(self, grid: Grid | None, shape: Sequence[int], cell: int, least: float) -> str:
        """What is wrong with it, but for when it is."""
        place = np.unravel_index(cell, shape) if shape else ()
        at = "" if grid is None else _named_place(grid, self.end, tuple(int(k) for k in place))
        return f"{self.kind} {self.where} is {least:.6g}{at}"


class Lowest(NamedTuple):
    """Where a coefficient is lowest.

    Attributes:
        cell: its place in the flattened array.
        value: there.
        is_wrong: whether it is too low.
    """

    cell: Int[Array, "..."]
    value: Float[Array, "..."]
    is_wrong: Bool[Array, "..."]


def signed_coefficients(
    grid: Grid | None,
    equations: Mapping[str, Sequence[AbstractTerm]],
    boundaries: Mapping[str, Ends],
    storage: Mapping[str, Any],
    capacities: Mapping[str, Any],
    varying: frozenset[str],
) -> list[Signed]:
    """All coefficients of a system that must not be negative.

    Args:
        grid: of the system, as for all that follow.
        equations: the terms.
        boundaries: the conditions.
        storage: capacities, and functions of the state, of which nothing is known.
        capacities: by which right-hand sides are divided.
        varying: names of what depends on the state.
    """
    found = [
        Signed(
            field,
            DIFFUSIVITY,
            f"of {type(term).__name__} in the equation of {field!r}",
            diffusivity,
            "it must not be negative, for what diffuses backwards grows, the faster the finer the "
            "grid. Correct it, keep it from falling below zero with jnp.maximum(..., 0.0), "
            f"{_RANGE}.",
        )
        for field, terms in equations.items()
        for term in select_fluxes(terms)
        for diffusivity in term.diffusivities
    ]
    found += [
        Signed(
            field,
            "the transfer",
            f"of {type(condition).__name__} of {field!r} at the {SIDES[side]} end of axis "
            f"{grid.names[axis]!r}",
            transfer,
            "it must not be negative, for it would feed on what it takes out. Correct it, keep it "
            f"from falling below zero with jnp.maximum(..., 0.0), {_RANGE}.",
            end=End(grid, axis, side),
            number=number,
        )
        for field, ends in boundaries.items()
        if grid is not None
        for axis, pair in enumerate(ends)
        for side, condition in enumerate(pair)
        if condition is not None
        for number, transfer in enumerate(condition.transfers)
    ]
    found += [
        Signed(
            field,
            "the storage",
            f"of {field!r}",
            part,
            "a capacity must be positive in every cell. For a negative one change the signs of the "
            "terms; a field without storage has the number 0.",
            may_vanish=False,
        )
        for field, part in storage.items()
        if not depends_on(part, varying)
    ]
    found += [
        Signed(
            field,
            "the capacity",
            f"of {field!r}",
            part,
            "it must be positive in every cell. For a negative one change the signs of the terms.",
            may_vanish=False,
        )
        for field, part in capacities.items()
    ]
    return found


def spreading_stores(
    equations: Mapping[str, Sequence[AbstractTerm]],
    storage: Mapping[str, Any],
    coefficients: Mapping[str, Any],
) -> tuple[str, ...]:
    """The fields that diffuse, and whose storage is a function of themselves.

    With what does not diffuse, but with no other field that does: of such a pair the storage of
    one may fall with its own field, and the problem be well-posed.

    Args:
        equations: the terms.
        storage: capacities and functions.
        coefficients: of the system.
    """
    spread = {
        field
        for field, terms in equations.items()
        if any(term.diffusivities for term in select_fluxes(terms))
    }
    found = []
    for field, part in storage.items():
        is_local = all(node.is_local for node in coefficients_of(part))
        if is_local and names_of_arguments(part, coefficients) & spread == {field} & spread:
            found.append(field)
    return tuple(field for field in found if field in spread)


def storage_slopes(
    scope: Scope, storage: Mapping[str, Any], fields: Sequence[str], state: State
) -> list[Signed]:
    r"""The slopes $\partial q_i / \partial u_i$ of some fields' storages at a state.

    Args:
        scope: at a time.
        storage: functions of the state.
        fields: whose.
        state: all fields.
    """
    found = []
    for field in fields:
        value = jax.lax.stop_gradient(state[field])
        others = jax.lax.stop_gradient(state)

        def stored(u: Array, field: str = field, others: State = others) -> Array:
            stored = jnp.asarray(scope.evaluate(storage[field], others | {field: u}))
            return jnp.broadcast_to(stored, u.shape)

        slope = jax.jvp(stored, (value,), (jnp.ones_like(value),))[1]
        # At zero the slope of a power may be anything, and the field be zero but for round-off.
        share = max(_SMALLEST_SHARE, float(jnp.finfo(value.dtype).eps) ** 0.5)
        is_zero = jnp.abs(value) <= share * jnp.abs(value).max(initial=0)
        slope = jnp.where(is_zero, jnp.inf, slope)
        found.append(Signed(field, "the slope of the storage", f"of {field!r}", slope, ""))
    return found


def check_signs(
    scope: Scope,
    parts: Sequence[Signed],
    varying: frozenset[str],
    elapsed: np.ndarray,
    origin: np.ndarray,
) -> tuple[int, ...]:
    """Refuse coefficients of the wrong sign, as far as they are known before a rollout.

    Args:
        scope: of the system, its steady coefficients evaluated.
        parts: of the system, evaluated as far as they are steady.
        varying: names of what depends on the state.
        elapsed: the times at which those that depend on time are looked at, from an origin.
        origin: see `Instant`.

    Returns: the numbers of those that depend on time, and can be known no sooner than in a step.
    Raises: InputError for the first, with the field, the term, the least value, where and when.
    """
    for part in parts:
        if part.is_evaluated:
            _check_one(scope.grid, part)
    changing = {
        number: part
        for number, part in enumerate(parts)
        if not (part.is_evaluated or part.depends_on(varying) or part.is_kept_right)
    }
    unknown = set(changing)
    if changing and len(elapsed):
        # Functions of place and time alone are known also where a rollout is traced.
        with jax.ensure_compile_time_eval():
            scope = replace(scope, origin=jnp.asarray(origin, scope.dtype))
            for number, part in changing.items():
                names = names_of_arguments(part.value, scope.coefficients)
                needed = {n: c for n, c in scope.coefficients.items() if n in names}
                if _is_plain((part.value, needed)):
                    of_part = replace(scope, coefficients=needed)
                    if _check_in_time(of_part, part, elapsed, float(origin.sum())):
                        unknown.discard(number)
    return tuple(sorted(unknown))


def check_signs_at(scope: Scope, parts: Sequence[Signed], varying: frozenset[str]) -> None:
    """The same at the time of a scope."""
    time = None if scope.time is None else float(scope.time.number)
    for part in parts:
        if part.depends_on(varying):
            continue
        found = part.evaluated(scope)
        if found.is_evaluated:
            _check_one(scope.grid, found, time if part.depends_on(frozenset({TIME})) else None)


def _is_plain(tree: Any) -> bool:
    """Whether all in it are functions of the user's: what is learned may be dear to evaluate."""
    are_functions = all(isinstance(node, AbstractClosure) for node in coefficients_of(tree))
    return are_functions and not latents_of(tree)


def _check_one(grid: Grid | None, part: Signed, time: float | None = None) -> None:
    if part.is_traced:
        return
    found = part.lowest(grid)
    if not isinstance(found.is_wrong, Tracer) and bool(found.is_wrong):
        what = part.message(grid, np.shape(part.value), int(found.cell), float(found.value))
        raise InputError(f"{what}{'' if time is None else _when(time)}: {part.reason}")


def _check_in_time(scope: Scope, part: Signed, elapsed: np.ndarray, origin: float) -> bool:
    """Whether a coefficient could be looked at."""
    moments = jnp.asarray(elapsed, scope.dtype)
    first = part.evaluated(scope.at(moments[0]))
    if not first.is_evaluated or first.is_traced:
        return False
    shape = np.shape(first.value)
    size = max(int(np.prod(shape)), 1)
    count = min(len(elapsed), max(_MOST_VALUES // size, 2))
    chosen = np.unique(np.linspace(0, len(elapsed) - 1, count).round().astype(int))

    def look(moment: Scalar) -> Lowest:
        return part.evaluated(scope.at(moment)).lowest(scope.grid)

    for some in np.array_split(chosen, -(-len(chosen) * size // _MOST_AT_ONCE)):
        found = jax.vmap(look)(moments[some])
        if isinstance(found.is_wrong, Tracer):
            return False
        if np.any(found.is_wrong):
            at = int(np.argmax(found.is_wrong))
            what = part.message(scope.grid, shape, int(found.cell[at]), float(found.value[at]))
            raise InputError(f"{what}{_when(origin + float(elapsed[some[at]]))}: {part.reason}")
    return True


def wrong_sign(
    grid: Grid | None, parts: Sequence[Signed], state: State, floor: Scalar | float = 0.0
) -> BoundsViolation | None:
    """Where a coefficient has the wrong sign; None where there is none to look at.

    Args:
        grid: where.
        parts: evaluated.
        state: the fields. Of those in whose equation a coefficient stands that has another shape,
            or none, no value is named.
        floor: of diffusivities, below which all are round-off.
    """
    if not parts:
        return None
    floors = [floor if part.kind == DIFFUSIVITY else 0.0 for part in parts]
    found = [part.lowest(grid, least) for part, least in zip(parts, floors, strict=True)]
    is_wrong = jnp.stack([one.is_wrong for one in found])
    number = jnp.argmax(is_wrong)
    dtype = jnp.result_type(*state.values())
    fields = []
    for part, one in zip(parts, found, strict=True):
        value = jax.lax.stop_gradient(state[part.field])
        has_cell = value.shape == jnp.shape(part.value)
        fields.append(value.ravel()[one.cell] if has_cell else jnp.full((), jnp.nan))
    return BoundsViolation(
        is_wrong.any(),
        number,
        jnp.stack([one.cell for one in found])[number],
        jnp.stack([one.value.astype(dtype) for one in found])[number],
        jnp.stack([value.astype(dtype) for value in fields])[number],
        tuple(Bounds(part.field, 0.0, float("inf"), part.kind) for part in parts),
        tuple(jnp.shape(part.value) for part in parts),
    )


def smallest_spread(grid: Grid | None, dt: Scalar) -> Scalar | float:
    """The diffusivity that reaches across the narrowest cell within a step."""
    if grid is None:
        return 0.0
    return min(float(axis.widths.min()) for axis in grid.axes) ** 2 / dt


def _when(time: float) -> str:
    return f", at t = {time:.10g}"


def _named_place(grid: Grid, end: End | None, place: tuple[int, ...]) -> str:
    """Where a value stands, by coordinates."""
    if not place:
        return ""
    axes = [k for k in range(grid.num_axes) if end is None or k != end.axis]
    if len(axes) != len(place):
        return ""
    named = (
        f"{grid.names[k]} = {grid.axes[k].centres[i]:.6g}" for k, i in zip(axes, place, strict=True)
    )
    return f" at {', '.join(named)}"
