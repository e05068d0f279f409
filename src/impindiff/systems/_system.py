"""Equations put together: fields, what they store, the terms that move them, and their grid."""

from collections.abc import Mapping, Sequence
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from impindiff._errors import InputError
from impindiff._types import Scalar, State
from impindiff.grid import Grid
from impindiff.latent import (
    as_closures,
    coefficients_of,
    depends_on,
    latent_values,
    latents_of,
)
from impindiff.systems._affine_tendency import AffineTendency, assemble
from impindiff.systems._balance import Balance, check_balance, is_algebraic
from impindiff.systems._checks import check_equations, check_functions, check_learned_names
from impindiff.systems._scope import Scope, cast, check_finite, check_names, varying_names
from impindiff.systems._state_tendency import Equations, StateTendency, split
from impindiff.terms import AbstractTerm


@final
class System(eqx.Module):
    r"""A semi-discrete system $\frac{d}{dt} q_i(u) = \sum_k T_{ik}(t, u)$ of named fields.

    Wherever a coefficient may stand, so may a number, an array, a latent, or a plain function whose
    parameters name what it depends on: fields, axes, the time `t`, coefficients of the system.

    Args:
        grid: where the fields live; None for ordinary differential equations, whose fields are
            numbers or small arrays, and whose terms are reactions.
        equations: for each field, the terms whose sum is its rate of change.
        coefficients: what functions may name besides, such as `{"rate": Parameter(...), "k": lambda
            T: ...}`. What several terms share, a learned closure above all, is given here, once.
        storage: $q$ of fields that store something other than themselves: a function of the state,
            `{"gas": lambda porosity, gas: porosity * gas}`; a capacity $c$ that does not depend on
            it, for $q = c\,u$; or 0 for an algebraic field, whose terms always add up to zero.
        scales: typical magnitudes of fields that differ by orders of magnitude, for the norms by
            which solvers measure: `{"gas": 0.04, "temperature": 1e3}`.

    One PyTree, its learned coefficients included.
    Raises: InputError for no field, an entry that is not a term, a function of something that the
        system does not have, two things of one name, or a storage or scale of what is no field.
    """

    grid: Grid | None
    equations: Equations
    coefficients: dict[str, Any]
    storage: dict[str, Any]
    algebraic: tuple[str, ...] = eqx.field(static=True)
    scales: tuple[tuple[str, float], ...] = eqx.field(static=True)

    def __init__(
        self,
        grid: Grid | None,
        equations: Mapping[str, Sequence[AbstractTerm]],
        *,
        coefficients: Mapping[str, Any] | None = None,
        storage: Mapping[str, Any] | None = None,
        scales: Mapping[str, float] | None = None,
    ) -> None:
        check_equations(grid, equations)
        storage, scales = storage or {}, scales or {}
        check_balance(tuple(equations), storage, scales)
        self.grid = grid
        self.equations = {
            field: tuple(as_closures(term) for term in terms) for field, terms in equations.items()
        }
        self.coefficients = as_closures(dict(coefficients or {}))
        self.algebraic = tuple(field for field, part in storage.items() if is_algebraic(part))
        self.storage = as_closures(
            {field: part for field, part in storage.items() if field not in self.algebraic}
        )
        self.scales = tuple((field, float(scale)) for field, scale in scales.items())
        check_names(grid, self.fields, self.coefficients)
        check_functions(grid, self.equations, self.coefficients, self.storage)
        check_learned_names((self.equations, self.coefficients, self.storage))

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields."""
        return tuple(self.equations)

    @property
    def data_grid(self) -> Grid:
        """The grid, for what works with data that lie on one.

        Raises: InputError for a system without.
        """
        if self.grid is None:
            raise InputError(
                "the system has no grid, on which data would lie: advance it by `simulate`."
            )
        return self.grid

    def check(self, state: State, time: Scalar | float = 0.0) -> None:
        """Evaluate every function at a state, and say which of them is not finite there.

        Not under `jit`.
        Raises: InputError for the first that is not, with the values that it was given.
        """
        parts = {f"the coefficient {name!r}": part for name, part in self.coefficients.items()}
        parts |= {f"the storage of {field!r}": part for field, part in self.storage.items()}
        parts |= {f"the equation of {field!r}": terms for field, terms in self.equations.items()}
        dtype = jnp.result_type(*state.values())
        scope = Scope(self.grid, self.coefficients, dtype).at(jnp.asarray(time, dtype))
        check_finite(scope, parts, state)

    def latents(self, time: Scalar | None = None) -> dict[str, Array]:
        """Values on the grid, by name, of what is learned and does not depend on the state.

        Latents, and the system's coefficients that are made from them. A learned closure has values
        only at a state: see `tabulate`.
        """
        parts = (self.equations, self.coefficients, self.storage)
        values = latent_values(parts, self.grid, time)
        known = Scope(self.grid, self.coefficients, jnp.dtype(jnp.float32)).at(time).values()
        made = [name for name, part in self.coefficients.items() if latents_of(part)]
        shape = () if self.grid is None else self.grid.shape
        for name in made:
            if name in known and name not in values:
                value = jnp.asarray(known[name])
                values[name] = jnp.broadcast_to(value, jnp.broadcast_shapes(shape, value.shape))
        return values

    def prepare(self, dtype: jnp.dtype) -> "PreparedSystem":
        """Evaluate what is steady; assemble it, if that is everything."""
        scope = Scope(self.grid, self.coefficients, dtype).at(None)
        equations, storage = scope.evaluate((self.equations, self.storage))
        varying = varying_names(self.fields, self.coefficients)
        functions = tuple(f for f, part in storage.items() if depends_on(part, varying))
        whole = (storage, functions, self.algebraic, self.scales, varying, dtype)
        prepared = PreparedSystem(scope, equations, None, *whole)
        waiting = coefficients_of((equations, storage, scope.coefficients))
        if not all(coefficient.is_steady for coefficient in waiting):
            return prepared
        # Nothing depends on time, so the right-hand side at any instant serves them all.
        return PreparedSystem(scope, equations, prepared.at(jnp.zeros((), dtype)), *whole)


@final
class PreparedSystem(eqx.Module):
    """A system whose steady coefficients are arrays.

    Attributes:
        scope: what functions may name, the steady coefficients evaluated.
        equations: the terms, the same.
        assembled: the right-hand side at all times, where it is one.
        storage: capacities, and functions that are still to be evaluated.
        functions: the fields whose storage is a function of the state.
        algebraic: the fields without storage.
        scales: typical magnitudes, by field.
        varying: names of what depends on the state.
        dtype: precision of everything.
    """

    scope: Scope
    equations: Equations
    assembled: AffineTendency | StateTendency | Balance | None
    storage: dict[str, Any]
    functions: tuple[str, ...] = eqx.field(static=True)
    algebraic: tuple[str, ...] = eqx.field(static=True)
    scales: tuple[tuple[str, float], ...] = eqx.field(static=True)
    varying: frozenset[str] = eqx.field(static=True)
    dtype: jnp.dtype = eqx.field(static=True)

    @property
    def is_affine(self) -> bool:
        """Whether $F$ and $q$ are affine, each field's in that field alone."""
        _, others = split(self.equations, self.varying)
        return self.scope.grid is not None and not any(others.values()) and not self.functions

    @property
    def is_steady(self) -> bool:
        """Whether no coefficient depends on time."""
        return self.assembled is not None

    @property
    def has_storage(self) -> bool:
        """See `impindiff._types.StoredDynamics`."""
        return bool(self.storage or self.algebraic)

    def at(self, time: Scalar) -> AffineTendency | StateTendency | Balance:
        """See `impindiff._types.Dynamics.at`."""
        if self.assembled is not None:
            return self.assembled
        scope = cast(self.scope.at(time), self.dtype)
        rates = self._rates(scope)
        if not (self.has_storage or self.scales):
            return rates
        storage = cast(scope.evaluate(self.storage), self.dtype)
        fields = tuple(self.equations)
        return Balance(rates, storage, scope, fields, self.functions, self.algebraic, self.scales)

    def _rates(self, scope: Scope) -> AffineTendency | StateTendency:
        known, others = split(scope.evaluate(self.equations), self.varying)
        if scope.grid is None:
            whole = {field: known[field] + others[field] for field in known}
            return StateTendency(None, cast(whole, self.dtype), scope)
        affine = assemble(scope.grid, known)
        affine = jax.tree.map(lambda leaf: jnp.asarray(leaf, self.dtype), affine)
        if not any(others.values()):
            return affine
        return StateTendency(affine, cast(others, self.dtype), scope)
