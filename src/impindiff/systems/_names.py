"""What goes by name in a system: each name is that of one thing, and no function lacks any."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import PyTree

from impindiff._errors import InputError
from impindiff.coefficients import AbstractClosure, coefficients_of
from impindiff.grid import Grid
from impindiff.latent import latents_of
from impindiff.systems._scope import TAKEN, TIME, flux_name

_BY_NAME = {
    "coefficients": "{'k': lambda T: ...}",
    "units": "{'k': '1/s'}",
    "integrals": "{'supplied': [term, ...]}",
    "balances": "{'mass': {'inside': lambda c: c}}",
}
# What is said of a field, by how one might think that the system takes it.
_OF_FIELDS = ("capacity", "scale", "bounds", "unit")


def check_call(unknown: Mapping[str, Any]) -> None:
    """Refuse arguments that `System` does not take.

    Args:
        unknown: by keyword.

    Raises: InputError, with the place for what is said of a field.
    """
    for name in unknown:
        if name in _OF_FIELDS:
            raise InputError(
                f"System(..., {name}=...): this is said of each field where it stands, "
                f"{{'c': Field([term, ...], {name}=...)}}."
            )
        raise InputError(
            f"System has no argument {name!r}; it takes grid, fields, coefficients, parameters, "
            "integrals, balances and units."
        )


def check_mappings(arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that are no mappings by name.

    Args:
        arguments: of `System`, by keyword; None where one is left out.

    Raises: InputError.
    """
    for keyword, value in arguments.items():
        if not isinstance(value, Mapping | None):
            raise InputError(
                f"System({keyword}=...) is a mapping by name, {_BY_NAME[keyword]}; found "
                f"{value!r:.80}."
            )


def check_names(
    grid: Grid | None,
    fields: tuple[str, ...],
    coefficients: Mapping[str, Any],
    parameters: tuple[str, ...],
    integrals: tuple[str, ...] = (),
    balances: tuple[str, ...] = (),
) -> None:
    """Refuse names that stand for two things, in the system or in its data.

    Raises: InputError.
    """
    axes = () if grid is None else grid.names
    places = {
        "a field": set(fields),
        "an integral": set(integrals),
        "a balance": set(balances),
        "a coefficient": set(coefficients),
        "a sample parameter": set(parameters),
        "an axis": set(axes),
        "the time": {TIME},
    }
    for name in sorted(set().union(*places.values())):
        meanings = [meaning for meaning, names in places.items() if name in names]
        if len(meanings) > 1:
            raise InputError(
                f"{name!r} is {' and '.join(meanings)} of the system: give each a name of its own."
            )
    for meaning in ("a field", "an integral", "an axis"):
        if taken := sorted(places[meaning] & set(TAKEN)):
            raise InputError(
                f"{taken[0]!r} is {meaning} of the system, and a dimension of all data: give it "
                "another name."
            )


def check_learned_names(tree: PyTree, others: Mapping[str, tuple[str, ...]]) -> None:
    """Every learned coefficient must have a name of its own, which is not that of anything else.

    Args:
        tree: all that may hold one.
        others: names by what they are.

    Raises: InputError.
    """
    names = [name for latent in latents_of(tree) for name in latent.names]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise InputError(
            f"{', '.join(sorted(repeated))} stand for more than one learned coefficient: each is "
            "learned apart from the others, so give each a name of its own. One that several terms "
            "share is given once, System(..., coefficients={name: ...}), and named by functions."
        )
    for meaning, taken in others.items():
        if shared := sorted(set(names) & set(taken)):
            raise InputError(
                f"{', '.join(shared)} is the name of a learned coefficient and of {meaning}: give "
                "each a name of its own."
            )


def check_arguments(tree: Any, whose: str, known: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a function of something that the system does not have.

    Args:
        tree: what is looked through.
        whose: where it stands, for the message.
        known: names by what they are, such as `{"fields": ("u", "v")}`.
    """
    names = {TIME}.union(*known.values())
    for closure in coefficients_of(tree):
        if not isinstance(closure, AbstractClosure):
            continue
        _check_defaults(closure, whose, {"the time": (TIME,), **known})
        if missing := [name for name in closure.arguments if name not in names]:
            check_flux(missing[0], f"{closure.label} in {whose}", known)
            listed = "; ".join(
                f"{kind} {', '.join(names_of_kind) or 'none'}"
                for kind, names_of_kind in known.items()
                if kind != "fluxes"  # nobody names these by hand
            )
            raise InputError(
                f"the function {closure.label} in {whose} asks for {missing[0]!r}, which the "
                f"system does not have. It has the {listed}; and the time t. Give {missing[0]!r} "
                f"by keyword, Closure(function, {missing[0]}=...), or in System(coefficients=...); "
                f"or for each sample, System(parameters=({missing[0]!r},))."
            )


_ONE = {
    "fields": "a field",
    "axes": "an axis",
    "coefficients": "a coefficient",
    "steady coefficients": "a coefficient",
    "sample parameters": "a sample parameter",
}


def _check_defaults(
    closure: AbstractClosure, whose: str, known: Mapping[str, tuple[str, ...]]
) -> None:
    """Refuse a default of what the system has under that name: which of them counts is a guess."""
    for name, value in closure.defaults.items():
        for kind, names in known.items():
            if name in names:
                raise InputError(
                    f"the parameter {name!r} of the function {closure.label} in {whose} has the "
                    f"default {value!r:.40}, and {name!r} is {_ONE.get(kind, kind)} of the system: "
                    "leave the default out if the system's is meant, and give the parameter "
                    "another name if the default is."
                )


def check_flux(name: str, what: str, known: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a flux that is not there; any other name passes.

    Args:
        name: of something that the system does not have.
        what: asks for it, for the message.
        known: see `check_arguments`.

    Raises: InputError.
    """
    field = name.removeprefix(flux_name(""))
    if field == name:
        return
    if "fluxes" not in known:
        raise InputError(f"{what}: a flux is known to terms alone, of equations and integrals.")
    if field not in known["fields"]:
        fields = ", ".join(known["fields"])
        raise InputError(f"{what}: the system has no field {field!r}. Its fields are {fields}.")
    raise InputError(
        f"{what}: nothing moves {field!r} through faces, so that it has no flux. Its equation "
        "needs a term that does, Diffusion or Advection; or take the flux of another field."
    )
