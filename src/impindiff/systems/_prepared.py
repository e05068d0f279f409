"""A system as a rollout sees it: what is steady evaluated, a right-hand side for any time."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import GivenState, Scalar, State
from impindiff.coefficients import (
    Coarse,
    Instant,
    check_captured,
    check_spans,
    coefficients_of,
    depends_on,
    rounding_times,
)
from impindiff.grid import Grid
from impindiff.integrate import AbstractDynamics, Bounds, BoundsViolation
from impindiff.systems._accounts import Accounts, Integrands
from impindiff.systems._affine_tendency import (
    AffineTendency,
    CorrectedTendency,
    assemble,
    evaluate_outer_faces,
    select_corrected,
)
from impindiff.systems._bounds import bounds_violation
from impindiff.systems._diagnostics import find_overshoots, find_unresolved
from impindiff.systems._flux_of import carriers
from impindiff.systems._outer_faces import Ends, evaluate_boundaries
from impindiff.systems._scope import (
    Scope,
    as_parameters,
    cast,
    check_parameters_known,
    extrema_within,
    initial_values,
)
from impindiff.systems._sources import evaluate_own_rate, find_own_sources
from impindiff.systems._state_at_ends import evaluate_face_values
from impindiff.systems._state_tendency import (
    Equations,
    Place,
    StateTendency,
    StoredTendency,
    split_terms,
)
from impindiff.systems._well_posed import (
    Signed,
    check_signs,
    signed_coefficients,
    smallest_spread,
    spreading_stores,
    storage_slopes,
    wrong_sign,
)
from impindiff.terms import AbstractSource

RightHandSide = AffineTendency | CorrectedTendency | StateTendency


@final
class PreparedSystem(AbstractDynamics):
    """A system whose steady coefficients are arrays.

    Where samples have parameters, these may still be unknown: then it is what all samples share,
    and `with_sample_parameters` makes the system of one of them.

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
        missing_parameters: names of the sample parameters that are not known yet.
        accounts: the integrals, the same, and the balances.
        limits: within which fields must lie.
        own: the sources that depend on the state by their own field alone, affinely.
        left_out: terms that the right-hand side is without, but for what asks for their fluxes.
        watched: the numbers of coefficients that must not be negative, depend on time, and can be
            known no sooner than in a step.
    """

    scope: Scope
    equations: Equations
    boundaries: dict[str, Ends]
    assembled: RightHandSide | StoredTendency | None
    storage: dict[str, Any]
    capacities: dict[str, Any]
    initial: dict[str, Any]
    functions: tuple[str, ...] = eqx.field(static=True)
    algebraic: tuple[str, ...] = eqx.field(static=True)
    scales: tuple[tuple[str, float], ...] = eqx.field(static=True)
    varying: frozenset[str] = eqx.field(static=True)
    dtype: jnp.dtype = eqx.field(static=True)
    missing_parameters: tuple[str, ...] = eqx.field(static=True, default=())
    accounts: Accounts = eqx.field(default_factory=Accounts)
    limits: tuple[Bounds, ...] = eqx.field(static=True, default=())
    own: frozenset[Place] = eqx.field(static=True, default=frozenset())
    left_out: frozenset[Place] = eqx.field(static=True, default=frozenset())
    watched: tuple[int, ...] = eqx.field(static=True, default=())

    has_clock: ClassVar[bool] = True

    @property
    def grid(self) -> Grid | None:
        """Where the fields live; None for fields that are numbers or small arrays."""
        return self.scope.grid

    @property
    def is_affine(self) -> bool:
        """Whether $F$ and $q$ are affine, each field's in that field alone."""
        apart = self.own | self.left_out
        known, others = split_terms(self.equations, self.boundaries, self.varying, apart)
        corrected = [term for terms in known.values() for term in select_corrected(terms)]
        linear = all(term.is_affine for term in corrected)
        on_grid = self.scope.grid is not None
        divided = bool(self.capacities)
        return on_grid and linear and not (any(others.values()) or self.functions or divided)

    @property
    def volume_shares(self) -> np.ndarray | None:
        """See `AbstractDynamics`."""
        grid = self.scope.grid
        if grid is None or all(map(grid.is_even, range(grid.num_axes))):
            return None
        volumes = grid.cell_volumes()
        return volumes / volumes.mean()

    @property
    def is_steady(self) -> bool:
        """Whether no coefficient depends on time."""
        return self.assembled is not None

    @property
    def has_storage(self) -> bool:
        """See `AbstractDynamics`."""
        return bool(self.storage or self.algebraic)

    def prepare(self, dtype: jnp.dtype) -> "PreparedSystem":
        """Itself: what is prepared once can stand wherever a system can.

        Raises: InputError for another precision than it was prepared in, or unknown
            sample parameters.
        """
        check_parameters_known(self.missing_parameters)
        if dtype != self.dtype:
            raise InputError(f"the system was prepared in {self.dtype}, but is used in {dtype}.")
        return self

    def evaluated(self) -> "PreparedSystem":
        """With all evaluated that is steady and known by now; assembled, if that is everything."""
        scope = self.scope.at(None)
        equations, storage, capacities, initial, integrals = scope.evaluate(
            (
                self.equations,
                self.storage,
                self.capacities,
                self.initial,
                self.accounts.integrals,
            )
        )
        boundaries = evaluate_boundaries(scope, self.boundaries)
        found = replace(
            self,
            scope=scope,
            equations=equations,
            boundaries=boundaries,
            storage=storage,
            capacities=capacities,
            initial=initial,
            accounts=replace(self.accounts, integrals=integrals),
            functions=tuple(f for f, part in storage.items() if depends_on(part, self.varying)),
            own=find_own_sources(scope, equations, self.varying, self.missing_parameters),
        )
        unevaluated = coefficients_of(
            (equations, boundaries, storage, capacities, scope.coefficients)
        )
        if self.missing_parameters or not all(coefficient.is_steady for coefficient in unevaluated):
            return found
        # Nothing depends on time, so the right-hand side at any instant serves them all.
        return replace(found, assembled=found.at(jnp.zeros((), self.dtype)))

    def with_sample_parameters(self, values: Mapping[str, Any]) -> "PreparedSystem":
        """The system of one sample: what depends on its parameters is evaluated.

        For many samples under `jax.vmap`: then arrays that do not depend on a parameter have no
        axis of samples.

        Args:
            values: of all sample parameters that are not known yet; numbers, which may be traced.

        Raises: InputError for parameters that are missing, are none, or are not one finite number.
        """
        if not self.missing_parameters and not values:
            return self
        known = as_parameters(self.missing_parameters, values, self.dtype)
        check_parameters_known([name for name in self.missing_parameters if name not in known])
        scope = replace(self.scope, coefficients=self.scope.coefficients | known)
        return replace(self, scope=scope, missing_parameters=()).evaluated()

    @property
    def rounding_times(self) -> tuple[str, ...]:
        """See `AbstractDynamics`."""
        stored = self.storage, self.capacities, self.accounts
        parts = self.equations, self.boundaries, self.scope.coefficients, *stored
        return tuple(rounding_times(parts))

    def counted_from(
        self, origin: Float[Array, " 3"], coarse: Coarse | None = None
    ) -> "PreparedSystem":
        """See `AbstractDynamics`."""
        return replace(self, scope=replace(self.scope, origin=origin, coarse=coarse))

    def extrema_within(self, time: Scalar, dt: Scalar) -> Float[Array, " moments"]:
        """See `AbstractDynamics.extrema_within`."""
        stored = self.storage, self.capacities, self.accounts
        parts = self.equations, self.boundaries, self.scope.coefficients, *stored
        return extrema_within(parts, self.scope.at(time), dt)

    def start(self, time: Scalar | Instant) -> State:
        """The initial values that the system itself gives: of one field for each of its cells.

        Raises: InputError for values of another shape, or unknown sample parameters.
        """
        check_parameters_known(self.missing_parameters)
        return initial_values(self.scope.at(time), self.initial)

    def first_guess(self, time: Scalar) -> tuple[State, tuple[str, ...]]:
        """See `AbstractDynamics.first_guess`: initial values that the system gives, else zero.

        Or the bound of a field that is nearest to zero.
        """
        given, grid = self.start(time), self.scope.grid
        rest = tuple(field for field in self.equations if field not in given)
        if grid is None and rest:
            return {}, ()
        shape = () if grid is None else grid.shape
        limits = {bounds.name: bounds for bounds in self.limits}
        for field in rest:
            lower, upper = limits[field][1:3] if field in limits else (0.0, 0.0)
            given |= {field: jnp.full(shape, min(max(0.0, lower), upper), self.dtype)}
        return given, rest

    def bounds_violation(self, state: State) -> BoundsViolation | None:
        """How a state leaves the fields' limits; None where no field has any."""
        return bounds_violation(state, self.limits, self.scope.grid) if self.limits else None

    @property
    def _signed(self) -> list[Signed]:
        """The coefficients that must not be negative."""
        return signed_coefficients(
            self.scope.grid,
            self.equations,
            self.boundaries,
            self.storage,
            self.capacities,
            self.varying,
        )

    def check_coefficients(self, elapsed: np.ndarray, origin: np.ndarray) -> "PreparedSystem":
        """See `AbstractDynamics.check_coefficients`; and for series that end too early."""
        if len(elapsed):
            stored = self.storage, self.capacities, self.accounts.integrals
            parts = self.equations, self.boundaries, self.scope.coefficients, *stored
            first, last = (float(origin.sum()) + float(f(elapsed)) for f in (np.min, np.max))
            check_spans(parts, first, last, "the simulation")
        watched = check_signs(self.scope, self._signed, self.varying, elapsed, origin)
        return replace(self, watched=watched)

    def ill_posed(self, state: State) -> BoundsViolation | None:
        """Where a steady coefficient has the wrong sign that is traced; None where none is."""
        parts = [part for part in self._signed if part.is_evaluated and part.is_traced]
        return wrong_sign(self.scope.grid, parts, state)

    def negative_diffusivity(
        self, state: State, time: Scalar, dt: Scalar
    ) -> BoundsViolation | None:
        """See `AbstractDynamics.negative_diffusivity`."""
        parts = [
            part
            for number, part in enumerate(self._signed)
            if number in self.watched or (part.depends_on(self.varying) and not part.is_kept_right)
        ]
        stores = spreading_stores(self.equations, self.storage, self.scope.coefficients)
        stores = [field for field in stores if field in self.functions]
        if not (parts or stores):
            return None
        scope = cast(self.scope if self.is_steady else self.scope.at(time), self.dtype)
        ends: dict[str, Ends] = {}
        if any(part.end is not None and part.depends_on(self.varying) for part in parts):
            # What stands in a condition is a function of the value at the face.
            tendency = self.at(time)
            if isinstance(tendency, StateTendency | StoredTendency):
                ends = tendency.ends(state)

        def evaluated(part: Signed) -> Signed:
            if part.end is None or not part.depends_on(self.varying):
                return part.evaluated(scope, state)
            _, axis, side = part.end
            condition = ends[part.field][axis][side]
            return replace(part, value=condition.transfers[part.number]) if condition else part

        known = [part for part in map(evaluated, parts) if part.is_evaluated]
        known += storage_slopes(scope, self.storage, stores, state)
        return wrong_sign(scope.grid, known, state, smallest_spread(scope.grid, dt))

    def check_derivatives(self) -> None:
        """Refuse functions that use what is being differentiated around them.

        Raises: InputError.
        """
        check_captured(self)

    def advice(
        self, initial: State, states: GivenState, saved: np.ndarray, ends: np.ndarray
    ) -> tuple[str, ...]:
        """What is to be said of a rollout, see `find_overshoots` and `find_unresolved`."""
        messages = find_overshoots(self, initial, states, saved, ends)
        return messages + find_unresolved(self, states, saved)

    def at(self, time: Scalar) -> RightHandSide | StoredTendency:
        """See `AbstractDynamics.at`.

        Raises: InputError for unknown sample parameters.
        """
        check_parameters_known(self.missing_parameters)
        if self.assembled is not None:
            return self.assembled
        scope = cast(self.scope.at(time), self.dtype)
        rates = self._rates(scope)
        if not (self.has_storage or self.scales or self.capacities):
            return rates
        known = scope.evaluate((self.storage, self.capacities))
        fields = tuple(self.equations)
        return StoredTendency(
            rates,
            *cast(known, self.dtype),
            scope,
            fields,
            self.functions,
            self.algebraic,
            self.scales,
        )

    def implicit_part(self) -> "PreparedSystem":
        """See `AbstractDynamics.implicit_part`."""
        explicit = frozenset(
            (field, number)
            for field, terms in self.equations.items()
            for number, term in enumerate(terms)
            if term.is_explicit and field not in self.algebraic
        )
        found = replace(self, left_out=explicit, assembled=None)
        # What is steady stays so. What is not may be so without these terms; that is not looked at.
        if not self.is_steady:
            return found
        return replace(found, assembled=found.at(jnp.zeros((), self.dtype)))

    @property
    def integrals(self) -> tuple[str, ...]:
        """See `AbstractDynamics`."""
        return tuple(self.accounts.integrals)

    def integrands(self, time: Scalar, names: tuple[str, ...]) -> Integrands:
        """See `AbstractDynamics.integrands`.

        Raises: InputError for unknown sample parameters.
        """
        check_parameters_known(self.missing_parameters)
        scope = cast(self.scope.at(time), self.dtype)
        terms = {name: self.accounts.integrals[name] for name in names}
        terms, equations = scope.evaluate((terms, self.equations))
        boundaries = cast(evaluate_boundaries(scope, self.boundaries), self.dtype)
        carrying = {field: equations[field] for field in carriers(terms)}
        others, at_faces = {}, {}
        if carrying:
            known, others = split_terms(equations, boundaries, self.varying)
            at_faces = evaluate_face_values(scope, boundaries, known, others | carrying)
        terms, carrying, others, at_faces = cast((terms, carrying, others, at_faces), self.dtype)
        boundaries = boundaries if carrying else {}
        return Integrands(terms, boundaries, carrying, others, at_faces, scope)

    def _rates(self, scope: Scope) -> RightHandSide:
        boundaries = cast(evaluate_boundaries(scope, self.boundaries), self.dtype)
        equations = scope.evaluate(self.equations)
        known, others = split_terms(equations, boundaries, self.varying, self.own | self.left_out)
        if scope.grid is None:
            whole = {field: known[field] + others[field] for field in known}
            return StateTendency(None, cast(whole, self.dtype), boundaries, {}, {}, scope)
        rates = assemble(scope.grid, known, boundaries)
        for field, terms in equations.items():
            own = [term for k, term in enumerate(terms) if (field, k) in self.own - self.left_out]
            if own := [term for term in own if isinstance(term, AbstractSource)]:
                rates = rates.with_own(field, evaluate_own_rate(scope, scope.grid, field, own))
        limited = {field: select_corrected(terms) for field, terms in known.items()}
        if any(limited.values()):
            outer = evaluate_outer_faces(scope.grid, known, boundaries)
            rates = CorrectedTendency(rates, limited, scope.grid, outer)
        rates = jax.tree.map(lambda leaf: jnp.asarray(leaf, self.dtype), rates)
        if not any(others.values()):
            return rates
        carrying = {field: equations[field] for field in carriers(others)}
        carrying, others = cast((carrying, others), self.dtype)
        at_faces = evaluate_face_values(scope, boundaries, known, others | carrying)
        at_faces = cast(at_faces, self.dtype)
        return StateTendency(rates, others, boundaries, carrying, at_faces, scope)
