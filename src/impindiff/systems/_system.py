"""Equations put together: fields, what they store, the terms that move them, and their grid."""

from collections.abc import Mapping, Sequence
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from impindiff._types import GivenState, Scalar, State, real_state
from impindiff.coefficients import Instant, as_closures, as_coefficients, real_precision
from impindiff.grid import Grid
from impindiff.integrate import AbstractSystem, Bounds
from impindiff.systems._accounts import Accounts
from impindiff.systems._balance import check_balance, is_algebraic
from impindiff.systems._boundaries import Ends, Given, check_boundaries, check_ends_finite
from impindiff.systems._checks import check_equations, check_whole, named_stored
from impindiff.systems._latents import values_on_grid
from impindiff.systems._limits import as_limits, excess_of
from impindiff.systems._names import check_mappings
from impindiff.systems._prepared import PreparedSystem
from impindiff.systems._scope import Scope, check_finite, initial_values, varying_names
from impindiff.systems._settings import check_given, checked_settings, setting_names
from impindiff.systems._state_tendency import Equations
from impindiff.terms import AbstractTerm, settle


@final
class System(AbstractSystem):
    r"""A semi-discrete system $\frac{d}{dt} q_i(u) = \sum_k T_{ik}(t, u)$ of named fields.

    Wherever a coefficient may stand, so may a number, an array, a latent, or a plain function whose
    parameters name what it depends on: fields, axes, the time `t`, coefficients of the system.

    Args:
        grid: where the fields live; None for ordinary differential equations, whose fields are
            numbers or small arrays, and whose terms are reactions.
        equations: for each field, the terms whose sum is its rate of change.
        boundaries: for each field that moves through faces, and each axis by name that is not
            periodic, the conditions at its ends: `{"c": {"x": (Inflow(1.0), Outflow()), "y":
            NoFlux()}}`. One condition stands for both ends.
        coefficients: what functions may name besides, such as `{"rate": Parameter(...), "k": lambda
            T: ...}`. What several terms share, a learned closure above all, is given here, once.
        storage: $q$ of fields that store something other than themselves: a function of the state,
            `{"gas": lambda porosity, gas: porosity * gas}`; a capacity $c$ that does not depend on
            it, for $q = c\,u$; or 0 for an algebraic field, whose terms always add up to zero.
        capacities: $c$ of fields with $c(u)\,\dot u = \sum_k T_k$ where it depends on the state, so
            that no $q$ is conserved: `{"T": lambda T, porosity: ...}`, the heat capacity of what
            the pores fill with. Otherwise as a coefficient; not 0 anywhere.
        initial: of fields whose initial values no data hold, a coefficient that does not depend on
            the state: known, such as `{"c": 0.0}`, or learned. The same for all samples.
        units: of fields and latents, `{"c": "mol/m3"}`: compared with those of the data, and
            written to forecasts.
        scales: typical magnitudes of fields that differ by orders of magnitude, for the norms by
            which solvers measure: `{"gas": 0.04, "temperature": 1e3}`.
        limits: what fields can be at all, `{"porosity": (0.0, 1.0), "T": (0.0, jnp.inf)}`, both
            ends allowed. A start or a reading beyond is refused, a step that leads there fails.
        integrals: over time, for each the terms that are its rate, without fluxes: `{"supplied":
            [Supply(FluxOf("c"))]}`. They begin at 0, and nothing depends on them but `balances`.
        balances: of what must stay the same, for each its parts, densities whose changes add up to
            zero: `{"mass": {"inside": lambda c: c, "in": lambda supplied: -supplied}}`.

    One PyTree, its learned coefficients included.
    Raises: InputError for no field, an entry that is not a term, a boundary condition that is
        missing or superfluous, a function of something that the system does not have, two things of
        one name, or a storage, capacity, scale, limit, initial value or unit of what is no field.
    """

    grid: Grid | None = eqx.field()
    equations: Equations
    boundaries: dict[str, Ends]
    coefficients: dict[str, Any]
    storage: dict[str, Any]
    capacities: dict[str, Any]
    initial: dict[str, Any]
    settings: dict[str, Scalar | None]
    accounts: Accounts
    algebraic: tuple[str, ...] = eqx.field(static=True)
    scales: tuple[tuple[str, float], ...] = eqx.field(static=True)
    units: tuple[tuple[str, str], ...] = eqx.field(static=True)
    limits: tuple[Bounds, ...] = eqx.field(static=True)

    def __init__(
        self,
        grid: Grid | None,
        equations: Mapping[str, Sequence[AbstractTerm]],
        boundaries: Mapping[str, Given] | None = None,
        *,
        coefficients: Mapping[str, Any] | None = None,
        storage: Mapping[str, Any] | None = None,
        capacities: Mapping[str, Any] | None = None,
        initial: Mapping[str, Any] | None = None,
        scales: Mapping[str, float] | None = None,
        units: Mapping[str, str] | None = None,
        settings: str | Sequence[str] = (),
        limits: Mapping[str, tuple[float, float]] | None = None,
        integrals: Mapping[str, Sequence[AbstractTerm]] | None = None,
        balances: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        check_equations(grid, equations)
        by_name = {"coefficients": coefficients, "storage": storage, "capacities": capacities}
        by_name |= {"initial": initial, "scales": scales, "units": units, "limits": limits}
        check_mappings(by_name | {"integrals": integrals, "balances": balances})
        storage, capacities, scales = storage or {}, capacities or {}, scales or {}
        check_balance(tuple(equations), storage, capacities, scales)
        self.grid = grid
        self.equations = {
            field: tuple(as_closures(term, (AbstractTerm,)) for term in terms)
            for field, terms in equations.items()
        }
        ends = check_boundaries(grid, equations, boundaries)
        self.boundaries = {
            field: tuple((as_closures(lower), as_closures(upper)) for lower, upper in each)
            for field, each in ends.items()
        }
        self.coefficients = as_coefficients(dict(coefficients or {}))
        varying = varying_names(self.fields, self.coefficients)
        self.equations = {
            field: tuple(settle(term, varying) for term in terms)
            for field, terms in self.equations.items()
        }
        self.algebraic = tuple(field for field, part in storage.items() if is_algebraic(part))
        self.storage = as_coefficients(
            {field: part for field, part in storage.items() if field not in self.algebraic}
        )
        self.capacities = as_coefficients(dict(capacities))
        self.initial = as_coefficients(dict(initial or {}))
        self.settings = dict.fromkeys(setting_names(settings))
        self.units = tuple((units or {}).items())
        self.scales = tuple((field, float(scale)) for field, scale in scales.items())
        self.limits = as_limits(self.fields, limits or {})
        self.accounts = Accounts.of(integrals or {}, balances or {})
        check_whole(self, self._named_parts, self._parts)
        self.accounts.check(grid, self.equations, self.coefficients, self.awaited)

    @property
    def _parts(self) -> tuple[Any, ...]:
        """All that may hold a coefficient."""
        stored = self.storage, self.capacities
        parts = self.equations, self.boundaries, self.coefficients, *stored, self.initial
        return *parts, self.accounts.integrals

    @property
    def _named_parts(self) -> dict[str, Any]:
        """The parts that hold coefficients at the cells, by what messages call them."""
        parts = {f"the coefficient {name!r}": part for name, part in self.coefficients.items()}
        parts |= named_stored(self.storage, self.capacities)
        parts |= {f"the equation of {field!r}": terms for field, terms in self.equations.items()}
        return parts | self.accounts.named

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields."""
        return tuple(self.equations)

    @property
    def integrals(self) -> tuple[str, ...]:
        """Names of the integrals over time."""
        return tuple(self.accounts.integrals)

    @property
    def accounted(self) -> tuple[str, ...]:
        """Names of the integrals, and after them of the balances."""
        return *self.integrals, *self.accounts.balances

    @property
    def awaited(self) -> tuple[str, ...]:
        """Names of the settings that are not given."""
        return tuple(name for name, value in self.settings.items() if value is None)

    def with_settings(self, values: Mapping[str, Any]) -> "System":
        """The system of one sample, with its settings given: all that `simulate` needs.

        Args:
            values: numbers by name, of all settings or of some; they may be traced.

        Raises: InputError for a name that is no setting, or what is not one finite number.
        """
        given = checked_settings(tuple(self.settings), values)
        return eqx.tree_at(
            lambda system: [system.settings[name] for name in given],
            self,
            list(given.values()),
            is_leaf=lambda node: node is None,
        )

    def scope(self, dtype: jnp.dtype) -> Scope:
        """All that has a name: what is given of the settings is known as coefficients are."""
        given = {n: jnp.asarray(v, dtype) for n, v in self.settings.items() if v is not None}
        return Scope(self.grid, self.coefficients | given, dtype)

    def check(self, state: GivenState, time: Scalar | float = 0.0) -> None:
        """Evaluate every function at a state, and say which of them is not finite there.

        Conditions at the boundaries, too. Not under `jit`.
        Raises: InputError for a field outside of its limits, the first function that is not finite,
            with the values that it was given, and for settings that are not given.
        """
        check_given(self.awaited)
        state = real_state(state)
        dtype = jnp.result_type(*state.values())
        scope = self.scope(dtype).at(Instant.of(time, dtype))
        # First: at a state that cannot be, functions need not be finite.
        if excess := excess_of(state, self.limits, self.grid):
            excess.check()
        check_finite(scope, self._named_parts, state)
        check_ends_finite(scope, self.boundaries, state)

    def latents(self, time: Scalar | Instant | float | None = None) -> dict[str, Array]:
        """Values on the grid, by name, of what is learned and does not depend on the state.

        At a time; without one, of that only which is the same at all times.

        Latents, and the system's coefficients that are made from them, be it by name, as far as
        they are one value for each cell. A learned closure has values only at a state: see
        `tabulate`.
        """
        parts = tuple(part for part in self._parts if part is not self.boundaries)
        instant = None if time is None else Instant.of(time, real_precision())
        scope = self.scope(real_precision())
        return values_on_grid(scope, parts, self.boundaries, instant)

    def start(self, time: Scalar | Instant | float, dtype: jnp.dtype) -> State:
        """The initial values that the system itself gives, see `PreparedSystem.start`."""
        if not self.initial:
            return {}
        check_given(self.awaited)
        scope = self.scope(dtype).at(Instant.of(time, dtype))
        return initial_values(scope, self.initial)

    def prepare(self, dtype: jnp.dtype) -> PreparedSystem:
        """Evaluate what is steady; assemble it, if that is everything.

        Raises: InputError for settings that are not given.
        """
        check_given(self.awaited)
        return self.prepare_shared(dtype)

    def prepare_shared(self, dtype: jnp.dtype) -> PreparedSystem:
        """Evaluate what is steady and the same for all samples, whatever their settings.

        Once for all of them; `PreparedSystem.with_settings` does the rest for each.
        """
        stored = self.storage, self.capacities, self.initial, (), self.algebraic, self.scales
        varying = varying_names(self.fields, self.coefficients)
        rest = varying, dtype, self.awaited, self.accounts, self.limits
        return PreparedSystem(
            self.scope(dtype), self.equations, self.boundaries, None, *stored, *rest
        ).evaluated()
