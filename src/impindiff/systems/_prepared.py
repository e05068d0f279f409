"""A system as a rollout sees it: what is steady evaluated, a right-hand side for any time."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp

from impindiff._errors import InputError
from impindiff._types import Scalar, State
from impindiff.systems._affine_tendency import AffineTendency, assemble
from impindiff.systems._balance import Balance
from impindiff.systems._boundaries import Ends, evaluate_boundaries
from impindiff.systems._corrected import CorrectedTendency, corrected_among
from impindiff.systems._flux_of import carriers
from impindiff.systems._scope import Scope, cast, initial_values
from impindiff.systems._state_tendency import Equations, StateTendency, split

RightHandSide = AffineTendency | CorrectedTendency | StateTendency


@final
class PreparedSystem(eqx.Module):
    """A system whose steady coefficients are arrays.

    Attributes:
        scope: what functions may name, the steady coefficients evaluated.
        equations: the terms, the same.
        boundaries: their conditions, the same.
        assembled: the right-hand side at all times, where it is one.
        storage: capacities, and functions that are still to be evaluated.
        capacities: by which right-hand sides are divided.
        initial: values of fields that do not begin as data say.
        functions: the fields whose storage is a function of the state.
        algebraic: the fields without storage.
        scales: typical magnitudes, by field.
        varying: names of what depends on the state.
        dtype: precision of everything.
    """

    scope: Scope
    equations: Equations
    boundaries: dict[str, Ends]
    assembled: RightHandSide | Balance | None
    storage: dict[str, Any]
    capacities: dict[str, Any]
    initial: dict[str, Any]
    functions: tuple[str, ...] = eqx.field(static=True)
    algebraic: tuple[str, ...] = eqx.field(static=True)
    scales: tuple[tuple[str, float], ...] = eqx.field(static=True)
    varying: frozenset[str] = eqx.field(static=True)
    dtype: jnp.dtype = eqx.field(static=True)

    @property
    def is_affine(self) -> bool:
        """Whether $F$ and $q$ are affine, each field's in that field alone."""
        known, others = split(self.equations, self.boundaries, self.varying)
        linear = not any(corrected_among(terms) for terms in known.values())
        on_grid = self.scope.grid is not None
        divided = bool(self.capacities)
        return on_grid and linear and not (any(others.values()) or self.functions or divided)

    @property
    def is_steady(self) -> bool:
        """Whether no coefficient depends on time."""
        return self.assembled is not None

    @property
    def has_storage(self) -> bool:
        """See `impindiff._types.StoredDynamics`."""
        return bool(self.storage or self.algebraic)

    def prepare(self, dtype: jnp.dtype) -> "PreparedSystem":
        """Itself: what is prepared once can stand wherever a system can.

        Raises: InputError for another precision than it was prepared in.
        """
        if dtype != self.dtype:
            raise InputError(f"the system was prepared in {self.dtype}, but is used in {dtype}.")
        return self

    def start(self, time: Scalar) -> State:
        """The initial values that the system itself gives: of one field for each of its cells.

        Raises: InputError for values of another shape.
        """
        return initial_values(self.scope.at(time), self.initial)

    def at(self, time: Scalar) -> RightHandSide | Balance:
        """See `impindiff._types.Dynamics.at`."""
        if self.assembled is not None:
            return self.assembled
        scope = cast(self.scope.at(time), self.dtype)
        rates = self._rates(scope)
        if not (self.has_storage or self.scales or self.capacities):
            return rates
        known = scope.evaluate((self.storage, self.capacities))
        fields = tuple(self.equations)
        return Balance(
            rates,
            *cast(known, self.dtype),
            scope,
            fields,
            self.functions,
            self.algebraic,
            self.scales,
        )

    def _rates(self, scope: Scope) -> RightHandSide:
        boundaries = cast(evaluate_boundaries(scope, self.boundaries), self.dtype)
        known, others = split(scope.evaluate(self.equations), boundaries, self.varying)
        if scope.grid is None:
            whole = {field: known[field] + others[field] for field in known}
            return StateTendency(None, cast(whole, self.dtype), boundaries, {}, scope)
        rates = assemble(scope.grid, known, boundaries)
        limited = {field: corrected_among(terms) for field, terms in known.items()}
        if any(limited.values()):
            rates = CorrectedTendency(rates, limited, scope.grid)
        rates = jax.tree.map(lambda leaf: jnp.asarray(leaf, self.dtype), rates)
        if not any(others.values()):
            return rates
        carrying = {field: known[field] + others[field] for field in carriers(others)}
        carrying, others = cast((carrying, others), self.dtype)
        return StateTendency(rates, others, boundaries, carrying, scope)
