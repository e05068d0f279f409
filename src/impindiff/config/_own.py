"""What functions of the user's own return, checked."""

from collections.abc import Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax

from impindiff._errors import InputError
from impindiff.config._kinds import check_name
from impindiff.config._schema import Config
from impindiff.config._systems import OwnSystemTable
from impindiff.grid import Grid
from impindiff.latent import latents_of, learned
from impindiff.systems import System
from impindiff.train import AbstractOptimiser

T = TypeVar("T")


def own_system(config: Config, table: OwnSystemTable, grid: Grid | None) -> System:
    """The system that a function returns, which may ask for the grid and a random key.

    Raises: InputError for a function that fails, asks for a grid where none is known, or returns
        anything else; for a system that has nothing to learn, other fields than the config says, or
        names that a data file cannot hold.
    """
    key, name = "system.build", table.build
    config.code.read("system.files", table.files)
    if grid is None and "grid" in config.code.parameters(key, name):
        raise InputError(
            f"{key}: {name} asks for the grid, and the config names none: give [[grid]], or data, "
            "whose grid is then taken."
        )
    given = {"grid": grid, "key": jax.random.key(config.seed)}
    system = config.code.call(key, name, given)
    if not isinstance(system, System):
        raise InputError(
            f"{key}: {name} returned {_described(system)}; it must return an impindiff.System."
        )
    if not jax.tree.leaves(eqx.filter(system, learned(system))):
        raise InputError(
            f"{key}: the system that {name} returned has nothing to learn: give a coefficient as a "
            "latent (Parameter, SineField, CellField, NeuralClosure)."
        )
    wanted = set(config.data.fields)
    if wanted != set(system.fields):
        raise InputError(
            f"{key}: the system that {name} returned has the fields "
            f"{', '.join(map(repr, system.fields))}, but data.fields are "
            f"{', '.join(map(repr, config.data.fields))}: they must be the same."
        )
    _check_names(key, system)
    return system


def own_stages(config: Config, name: str, system: System) -> list[AbstractOptimiser]:
    """The optimisers that a function returns, which may ask for the system.

    Raises: InputError for a function that fails or returns anything else.
    """
    return _listed(
        config, "training.stages", name, {"system": system}, AbstractOptimiser, "optimisers"
    )


def _listed(
    config: Config, key: str, name: str, given: dict[str, Any], kind: type[T], what: str
) -> list[T]:
    """The list that a function returns."""
    found = config.code.call(key, name, given)
    if not isinstance(found, Sequence) or not found:
        raise InputError(f"{key}: {name} returned {_described(found)}; it must return {what}.")
    if strange := [each for each in found if not isinstance(each, kind)]:
        raise InputError(
            f"{key}: {name} returned a list with {_described(strange[0])}; it must return {what}."
        )
    return list(found)


def _check_names(key: str, system: System) -> None:
    """Refuse names that a forecast file cannot hold, in which truths stand beside forecasts."""
    names = [*system.fields, *(name for latent in latents_of(system) for name in latent.names)]
    for name in names:
        try:
            check_name(name)
        except ValueError as error:
            raise InputError(f"{key}: {error}.") from None
        if f"{name}_truth" in names:
            raise InputError(
                f"{key}: {name!r} and {name}_truth cannot both be names: the second is what "
                "forecasts call the truth of the first."
            )


def _described(value: Any) -> str:
    return "nothing" if value is None else f"{value!r:.80} ({type(value).__name__})"
