"""What is refused when a system is put together."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import PyTree

from impindiff._errors import InputError, blamed_on
from impindiff.coefficients import is_coefficient
from impindiff.grid import Grid
from impindiff.latent import latents_of
from impindiff.systems._flux_of import check_carriers
from impindiff.systems._names import check_arguments, check_learned_names, check_names
from impindiff.systems._outer_faces import Ends, select_fluxes
from impindiff.systems._scope import TAKEN, TIME, flux_name, varying_names
from impindiff.systems._shapes import check_promotion
from impindiff.terms import AbstractTerm, AbstractTwoPointFlux, Diffusion


@runtime_checkable
class CompleteSystem(Protocol):
    """What of a system is checked when it is put together, see `System`."""

    grid: Grid | None
    equations: dict[str, tuple[AbstractTerm, ...]]
    boundaries: dict[str, Ends]
    coefficients: dict[str, Any]
    storage: dict[str, Any]
    capacities: dict[str, Any]
    initial: dict[str, Any]

    @property
    def integrals(self) -> tuple[str, ...]:
        """Names of the integrals over time."""
        ...

    @property
    def accounted(self) -> tuple[str, ...]:
        """Names of the integrals, and after them of the balances."""
        ...

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields."""
        ...

    @property
    def missing_parameters(self) -> tuple[str, ...]:
        """Names of the sample parameters."""
        ...


def check_system(system: CompleteSystem, named_parts: Mapping[str, PyTree], parts: PyTree) -> None:
    """Refuse a system whose parts do not fit together.

    Args:
        system: with all of its attributes.
        named_parts: what holds coefficients at the cells, by what messages call it.
        parts: all that may hold a coefficient.

    Raises: InputError.
    """
    grid, fields, parameters = system.grid, system.fields, system.missing_parameters
    balances = system.accounted[len(system.integrals) :]
    check_names(grid, fields, system.coefficients, parameters, system.integrals, balances)
    ends = {f"the boundary conditions of {f!r}": e for f, e in system.boundaries.items()}
    begins = {f"the initial values of {f!r}": value for f, value in system.initial.items()}
    check_no_text({**named_parts, **ends, **begins})
    _check_real({**named_parts, **ends, **begins})
    stored = storage_by_name(system.storage, system.capacities)
    check_functions(
        grid, system.equations, system.boundaries, system.coefficients, stored, parameters
    )
    # Not in conditions, where a coefficient may have the shape of a boundary.
    at_cells = {**named_parts, **begins}
    check_promotion(grid, fields, system.coefficients, parameters, at_cells)
    check_oblique(grid, system.equations)
    check_initial(grid, fields, system.initial, system.coefficients, parameters)
    others = {"a field": fields, "an integral": system.integrals, "a balance": balances}
    others |= {"a sample parameter": parameters}
    others |= {"an axis": () if grid is None else grid.names, "the time": (TIME,)}
    others["a dimension of all data"] = TAKEN
    check_learned_names(parts, others)


def check_oblique(grid: Grid | None, equations: Mapping[str, Sequence[AbstractTerm]]) -> None:
    """Refuse tensors that are not positive definite, and what their fluxes do not go with.

    At a closed face the gradient across it makes up for what they move along it. All diffusion of
    the field takes part in that, and so stands in one term.

    Raises: InputError.
    """
    for field, terms in equations.items():
        fluxes = select_fluxes(terms)
        for term in fluxes:
            whose = f"{type(term).__name__} in the equation of {field!r}"
            inner = [node for node in _fluxes_in(term) if node.is_oblique]
            if inner and not term.is_oblique:
                raise InputError(
                    f"{whose} is made of {type(inner[0]).__name__} with components of two axes, "
                    "which it passes on through two cells of a face alone: use that term itself, "
                    "or leave these components out."
                )
            others = [each for each in fluxes if each is not term and each.diffusivities]
            if term.is_oblique and others:
                raise InputError(
                    f"{whose} has components of two axes, and {type(others[0]).__name__} there "
                    "diffuses besides: all diffusion of such a field stands in one term. Add the "
                    "diffusivities on the diagonal."
                )
            if grid is not None and isinstance(term, Diffusion):
                with blamed_on(whose):
                    term.check_on(grid)


def _fluxes_in(term: AbstractTerm) -> list[AbstractTwoPointFlux]:
    """The fluxes that a term is made of."""

    def is_part(node: Any) -> bool:
        return node is not term and isinstance(node, AbstractTwoPointFlux)

    return [node for node in jax.tree.leaves(term, is_leaf=is_part) if is_part(node)]


def flux_names(equations: Mapping[str, Sequence[AbstractTerm]]) -> dict[str, tuple[str, ...]]:
    """The fluxes that `FluxOf` may ask for, by the kind of name that they are."""
    return {"fluxes": tuple(flux_name(f) for f, terms in equations.items() if select_fluxes(terms))}


def check_no_text(parts: Mapping[str, PyTree]) -> None:
    """Refuse text, and arrays whose axes have names, where a coefficient must stand.

    Args:
        parts: what is looked through, by where it stands.

    Raises: InputError.
    """
    for whose, part in parts.items():
        if texts := [leaf for leaf in jax.tree.leaves(part) if isinstance(leaf, str)]:
            raise InputError(
                f"{whose} has the text {texts[0]!r} where a coefficient stands. One of the "
                f"system's is named by a function, lambda {_as_parameter(texts[0])}; an attribute "
                "of a term that is no coefficient is static, equinox.field(static=True)."
            )
        # Of xarray and pandas: their axes may stand in another order than the grid's.
        for leaf in jax.tree.leaves(part):
            if hasattr(leaf, "__array__") and hasattr(leaf, "values"):
                raise InputError(
                    f"{whose} has a {type(leaf).__name__} where a coefficient stands: give its "
                    "numbers, `.values`, axes in the order of the grid's."
                )


def _as_parameter(text: str) -> str:
    name = text if text.isidentifier() else "k"
    return f"{name}: {name}"


def check_functions(
    grid: Grid | None,
    equations: Mapping[str, tuple[AbstractTerm, ...]],
    boundaries: Mapping[str, Ends],
    coefficients: Mapping[str, Any],
    stored: Mapping[str, Any],
    parameters: tuple[str, ...],
) -> None:
    """Every function must be one of things that the system has.

    Args:
        grid: of the system.
        equations: of the system.
        boundaries: of the system.
        coefficients: of the system.
        stored: what else holds functions, by what messages call it.
        parameters: names of the system's.

    Raises: InputError, also for coefficients that depend on each other in a circle.
    """
    known = {
        "fields": tuple(equations),
        **flux_names(equations),
        "axes": () if grid is None else grid.names,
        "coefficients": tuple(coefficients),
    } | _unless_none("sample parameters", parameters)
    for field, terms in equations.items():
        check_arguments(terms, f"the equation of {field!r}", known)
    for field, ends in boundaries.items():
        check_arguments(ends, f"the boundary conditions of {field!r}", known)
    for whose, part in stored.items():
        check_arguments(part, whose, known)
    for name, coefficient in coefficients.items():
        check_arguments(coefficient, f"the coefficient {name!r}", known)
    varying_names(tuple(equations), coefficients)
    for field, terms in equations.items():
        check_carriers(terms, f"the equation of {field!r} is carried by", equations)


def check_initial(
    grid: Grid | None,
    fields: tuple[str, ...],
    initial: Mapping[str, Any],
    coefficients: Mapping[str, Any],
    parameters: tuple[str, ...],
) -> None:
    """Initial values do not depend on fields.

    Raises: InputError.
    """
    steady = tuple(set(coefficients) - varying_names(fields, coefficients))
    known = {"axes": () if grid is None else grid.names, "steady coefficients": steady}
    known |= _unless_none("sample parameters", parameters)
    for field, part in initial.items():
        check_arguments(part, f"the initial values of {field!r}", known)


def check_units(units: Mapping[str, str], system: CompleteSystem, parts: PyTree) -> None:
    """Units apart from the fields' own are of latents, sample parameters, integrals and balances.

    Raises: InputError.
    """
    latents = [name for latent in latents_of(parts) for name in latent.names]
    if own := sorted(set(units) & set(system.fields)):
        raise InputError(
            f"units names the field {own[0]!r}: its unit stands with it, Field(..., "
            f"unit={units[own[0]]!r})."
        )
    if strange := sorted(set(units) - {*system.accounted, *latents, *system.missing_parameters}):
        raise InputError(
            f"units names {', '.join(strange)}, which the system does not have: learned are "
            f"{', '.join(latents) or 'none'}; sample parameters are "
            f"{', '.join(system.missing_parameters) or 'none'}; integrals and balances are "
            f"{', '.join(system.accounted) or 'none'}."
        )


def storage_by_name(storage: Mapping[str, Any], capacities: Mapping[str, Any]) -> dict[str, Any]:
    """What is stored, and what right-hand sides are divided by, by what messages call it."""
    parts = {f"the storage of {field!r}": part for field, part in storage.items()}
    return parts | {f"the capacity of {field!r}": part for field, part in capacities.items()}


def _unless_none(kind: str, names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return {kind: names} if names else {}


def _check_real(parts: Mapping[str, PyTree]) -> None:
    """Refuse complex numbers; what functions and latents hold is their own."""
    for whose, part in parts.items():
        for leaf in jax.tree.leaves(part, is_leaf=is_coefficient):
            if is_coefficient(leaf) or not np.iscomplexobj(leaf):
                continue
            found = f"{leaf}" if np.ndim(leaf) == 0 else f"an array of {leaf.dtype}"
            raise InputError(
                f"{whose} holds {found}, which is complex: coefficients are real numbers. Write a "
                "complex field as two fields, its real part and its imaginary part."
            )
