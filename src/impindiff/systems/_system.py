"""Equations put together: fields, what they share, and their grid."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from impindiff._errors import InputError
from impindiff._types import GivenState, Scalar, State, real_state
from impindiff.coefficients import Instant, as_closures, as_coefficients, real_precision
from impindiff.grid import Grid
from impindiff.integrate import AbstractSystem, Bounds
from impindiff.latent import latent_values, latents_of
from impindiff.systems._accounts import Accounts
from impindiff.systems._bounds import bounds_violation
from impindiff.systems._checks import check_system, check_units, storage_by_name
from impindiff.systems._earlier_call import as_stated_today, warn_of_settings
from impindiff.systems._fields import Field, as_fields
from impindiff.systems._names import check_call, check_mappings
from impindiff.systems._outer_faces import Ends, Given, boundary_latents, check_ends_finite
from impindiff.systems._prepared import PreparedSystem
from impindiff.systems._scope import (
    Scope,
    as_parameters,
    check_finite,
    check_parameters_known,
    initial_values,
    parameter_names,
    reached_names,
    varying_names,
)
from impindiff.systems._state_tendency import Equations
from impindiff.systems._well_posed import check_signs_at, signed_coefficients
from impindiff.terms import AbstractTerm, Advection, Diffusion, settle


@final
class System(AbstractSystem):
    r"""A semi-discrete system $\frac{d}{dt} q_i(u) = \sum_k T_{ik}(t, u)$ of named fields.

    Wherever a coefficient may stand, so may a number, an array, a latent, or a plain function whose
    parameters name what it depends on: fields, axes, the time `t`, coefficients of the system.

    Args:
        grid: where the fields live; None for ordinary differential equations, whose fields are
            numbers or small arrays, and whose terms are reactions.
        fields: each by its name, as a `Field`; a list of terms stands for one of which there is no
            more to say: `{"gas": Field([...], storage=...), "porosity": [...]}`.
        coefficients: what functions may name besides, such as `{"rate": Parameter(...), "k": lambda
            T: ...}`. What several terms share, a learned closure above all, is given here, once.
        parameters: names of numbers that each sample brings, such as `("T_gas",)`: data hold them,
            `with_sample_parameters` gives those of one sample, and functions name them as
            coefficients.
        integrals: over time, for each the terms that are its rate, without fluxes: `{"supplied":
            [Supply(FluxOf("c"))]}`. They begin at 0, and nothing depends on them but `balances`.
        balances: of what must stay the same, for each its parts, densities whose changes add up to
            zero: `{"mass": {"inside": lambda c: c, "in": lambda supplied: -supplied}}`.
        units: of what is no field: latents, sample parameters, integrals and balances.

    One PyTree, its learned coefficients included.
    Raises: InputError for no field, one that cannot be (see `Field`), a function of something that
        the system does not have, two things of one name, or a unit of nothing.
    """

    grid: Grid | None = eqx.field()
    equations: Equations
    boundaries: dict[str, Ends]
    coefficients: dict[str, Any]
    storage: dict[str, Any]
    capacities: dict[str, Any]
    initial: dict[str, Any]
    sample_parameters: dict[str, Scalar | None]
    accounts: Accounts
    algebraic: tuple[str, ...] = eqx.field(static=True)
    scales: tuple[tuple[str, float], ...] = eqx.field(static=True)
    units: tuple[tuple[str, str], ...] = eqx.field(static=True)
    limits: tuple[Bounds, ...] = eqx.field(static=True)

    def __init__(
        self,
        grid: Grid | None,
        fields: Mapping[str, Field | Sequence[AbstractTerm]],
        *earlier: Any,
        coefficients: Mapping[str, Any] | None = None,
        parameters: str | Sequence[str] = (),
        integrals: Mapping[str, Sequence[AbstractTerm]] | None = None,
        balances: Mapping[str, Mapping[str, Any]] | None = None,
        units: Mapping[str, str] | None = None,
        **others: Any,
    ) -> None:
        fields, others = as_stated_today(fields, earlier, others)
        parameters = others.pop("parameters", parameters)
        check_call(others)
        by_name = {"coefficients": coefficients, "integrals": integrals, "balances": balances}
        check_mappings(by_name | {"units": units})
        if not isinstance(grid, Grid | None):
            raise InputError(
                f"the grid of a system is {grid!r:.60}: give a Grid, or None for a system without."
            )
        known = as_fields(grid, fields)
        self.grid = grid
        self.coefficients = as_coefficients(dict(coefficients or {}))
        varying = varying_names(tuple(known), self.coefficients)
        self.equations = {
            name: tuple(settle(as_closures(term, (AbstractTerm,)), varying) for term in field.terms)
            for name, field in known.items()
        }
        self.boundaries = {
            name: tuple(
                (as_closures(lower), as_closures(upper)) for lower, upper in field.ends(grid, name)
            )
            for name, field in known.items()
        }
        self.algebraic = tuple(name for name, field in known.items() if field.is_algebraic)
        storage = _stated(known, "storage")
        storage = {name: part for name, part in storage.items() if name not in self.algebraic}
        self.storage = as_coefficients(storage)
        self.capacities = as_coefficients(_stated(known, "capacity"))
        self.initial = as_coefficients(_stated(known, "initial"))
        scales = _stated(known, "scale")
        self.scales = tuple((name, float(scale)) for name, scale in scales.items())
        limits = (field.limit(name) for name, field in known.items())
        self.limits = tuple(limit for limit in limits if limit is not None)
        self.sample_parameters = dict.fromkeys(parameter_names(parameters))
        self.units = tuple({**_stated(known, "unit"), **(units or {})}.items())
        self.accounts = Accounts.of(integrals or {}, balances or {})
        check_system(self, self._named_parts, self._parts)
        check_units(units or {}, self, self._parts)
        self.accounts.check(grid, self.equations, self.coefficients, self.missing_parameters)

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
        parts |= storage_by_name(self.storage, self.capacities)
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
    def missing_parameters(self) -> tuple[str, ...]:
        """Names of the unknown sample parameters."""
        return tuple(name for name, value in self.sample_parameters.items() if value is None)

    def with_sample_parameters(self, values: Mapping[str, Any]) -> "System":
        """The system of one sample, with its parameters known: all that `simulate` needs.

        Args:
            values: numbers by name, of all sample parameters or of some; they may be traced.

        Raises: InputError for a name that is no sample parameter, or what is not one finite number.
        """
        numbers = as_parameters(tuple(self.sample_parameters), values)
        return eqx.tree_at(
            lambda system: [system.sample_parameters[name] for name in numbers],
            self,
            list(numbers.values()),
            is_leaf=lambda node: node is None,
        )

    @property
    def settings(self) -> dict[str, Scalar | None]:
        """The sample parameters, as version 0.1.0 named them."""
        warn_of_settings("settings", "sample_parameters")
        return self.sample_parameters

    def with_settings(self, values: Mapping[str, Any]) -> "System":
        """See `with_sample_parameters`, as version 0.1.0 named it."""
        warn_of_settings("with_settings", "with_sample_parameters")
        return self.with_sample_parameters(values)

    def scope(self, dtype: jnp.dtype) -> Scope:
        """All that has a name: sample parameters that are known are so as coefficients are."""
        numbers = {
            n: jnp.asarray(v, dtype) for n, v in self.sample_parameters.items() if v is not None
        }
        return Scope(self.grid, self.coefficients | numbers, dtype)

    def check(self, state: GivenState, time: Scalar | float = 0.0) -> None:
        """Evaluate every function at a state, and say which of them is not finite there.

        Conditions at the boundaries, too. Not under `jit`.
        Raises: InputError for a field outside of its limits, the first function that is not finite,
            with the values of its arguments, and for unknown sample parameters.
        """
        check_parameters_known(self.missing_parameters)
        state = real_state(state)
        dtype = jnp.result_type(*state.values())
        scope = self.scope(dtype).at(Instant.of(time, dtype))
        # First: at a state that cannot be, functions need not be finite.
        if violation := bounds_violation(state, self.limits, self.grid):
            violation.check()
        check_finite(scope, self._named_parts, state)
        check_ends_finite(scope, self.boundaries, state)
        varying = varying_names(self.fields, self.coefficients)
        stored = self.storage, self.capacities, varying
        parts = signed_coefficients(self.grid, self.equations, self.boundaries, *stored)
        check_signs_at(scope, parts, varying)

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
        return _values_on_grid(scope, parts, self.boundaries, instant)

    def start(self, time: Scalar | Instant | float, dtype: jnp.dtype) -> State:
        """The initial values that the system itself gives, see `PreparedSystem.start`."""
        if not self.initial:
            return {}
        check_parameters_known(self.missing_parameters)
        scope = self.scope(dtype).at(Instant.of(time, dtype))
        return initial_values(scope, self.initial)

    def prepare(self, dtype: jnp.dtype) -> PreparedSystem:
        """Evaluate what is steady; assemble it, if that is everything.

        Raises: InputError for unknown sample parameters.
        """
        check_parameters_known(self.missing_parameters)
        return self.prepare_shared(dtype)

    def prepare_shared(self, dtype: jnp.dtype) -> PreparedSystem:
        """Evaluate what is steady and the same for all samples, whatever their parameters.

        Once for all of them; `PreparedSystem.with_sample_parameters` does the rest for each.
        """
        stored = self.storage, self.capacities, self.initial, (), self.algebraic, self.scales
        varying = varying_names(self.fields, self.coefficients)
        rest = varying, dtype, self.missing_parameters, self.accounts, self.limits
        return PreparedSystem(
            self.scope(dtype), self.equations, self.boundaries, None, *stored, *rest
        ).evaluated()


def _values_on_grid(
    scope: Scope, parts: Any, boundaries: Mapping[str, Ends], time: Instant | None
) -> dict[str, Array]:
    """See `System.latents`.

    Args:
        scope: of the system, nothing evaluated.
        parts: all that holds coefficients at the cells.
        boundaries: the conditions.
        time: None for that only which is the same at all times.
    """
    values = latent_values(parts, scope.grid, time)
    if scope.grid is not None:
        values |= boundary_latents(boundaries, scope.grid, time)
    known = scope.at(time).values()
    own = {name for name, part in scope.coefficients.items() if latents_of(part)}
    shape = () if scope.grid is None else scope.grid.shape
    for name, names in reached_names(scope.coefficients).items():
        if name in known and name not in values and own & {name, *names}:
            value = jnp.asarray(known[name])
            if value.shape in ((), shape):
                values[name] = jnp.broadcast_to(value, shape)
    return values


def _stated(fields: Mapping[str, Field], attribute: str) -> dict[str, Any]:
    """An attribute of the fields that have it."""
    values = {name: getattr(field, attribute) for name, field in fields.items()}
    return {name: value for name, value in values.items() if value is not None}


def advection_diffusion(
    grid: Grid,
    velocity: Any,
    diffusivity: Any,
    *,
    scheme: Literal["upwind", "central", "limited"] = "upwind",
    field: str = "concentration",
    boundaries: Given | None = None,
) -> System:
    r"""$\partial_t u = -\nabla\cdot(\mathbf v\,u) + \nabla\cdot(D\,\nabla u)$.

    Args:
        grid: of one, two or three dimensions.
        velocity: see `impindiff.terms.Advection`.
        diffusivity: see `impindiff.terms.Diffusion`.
        scheme: advection scheme, see `impindiff.terms.Advection`.
        field: the name of $u$, as in the data.
        boundaries: for each axis that is not periodic the conditions at its ends, see `Field`.
    """
    terms = [Advection(velocity, scheme), Diffusion(diffusivity)]
    return System(grid, {field: Field(terms, boundaries)})
