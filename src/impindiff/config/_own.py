"""What functions of the user's own return, checked."""

from collections.abc import Mapping
from typing import Any, TypeVar

import equinox as eqx
import jax
import optax

from impindiff._errors import InputError
from impindiff.config._kinds import check_name
from impindiff.config._schema import Config
from impindiff.grid import Grid
from impindiff.latent import latents_of, learned
from impindiff.observe import AbstractObservation, AbstractPenalty
from impindiff.systems import System
from impindiff.train import Stage

T = TypeVar("T")

_KINDS = {
    Stage: "stages, such as [Stage(Adam(learning_rate=1e-2), 60), Stage(LBFGS(), 60)]",
    AbstractObservation: "observations (Cells, Sensors, LineAverage, VolumeAverage, Measured)",
    AbstractPenalty: "penalties (Smoothness, TotalVariation, WeightDecay, DivergenceFree)",
}


def asks_for_grid(config: Config) -> bool:
    """Whether the function of the system takes the grid, and does not bring its own."""
    return "grid" in config.code.parameters("system.build", config.system.build)


def own_system(config: Config, grid: Grid | None, learns: bool) -> System:
    """The system that a function returns, which may ask for the grid, a random key and options.

    Raises: InputError for a function that fails, asks for a grid where none is known, or returns
        anything else; for a system that has nothing to learn where it `learns`, other fields than
        the config says, or names that a data file cannot hold.
    """
    table = config.system
    key, name = "system.build", table.build
    config.code.read("system.files", table.files)
    parameters = config.code.parameters(key, name)
    _check_options(name, table.options, parameters)
    if grid is None and "grid" in parameters:
        raise InputError(
            f"{key}: {name} asks for the grid, and the config names none: give [[grid]], or data, "
            "whose grid is then taken."
        )
    given = {"grid": grid, "key": jax.random.key(config.seed)}
    system = config.code.call(key, name, given | table.options)
    if not isinstance(system, System):
        raise InputError(
            f"{key}: {name} returned {_described(system)}; it must return an impindiff.System."
        )
    if learns and not jax.tree.leaves(eqx.filter(system, learned(system))):
        raise InputError(
            f"{key}: the system that {name} returned has nothing to learn: give a coefficient as a "
            "latent (Parameter, SineField, CellField, NeuralClosure)."
        )
    in_data, begun = set(config.data.fields), set(system.fields) - set(system.initial)
    if not begun <= in_data <= set(system.fields):
        raise InputError(
            f"{key}: the system that {name} returned has the fields "
            f"{', '.join(map(repr, system.fields))}, but data.fields are "
            f"{', '.join(map(repr, config.data.fields))}: they must be the same, but for fields "
            "whose initial values the system gives itself (Field(..., initial=...))."
        )
    _check_names(key, system)
    return system


def own_stages(config: Config, name: str, system: System) -> list[Stage]:
    """The stages that a function returns, which may ask for the system and its grid.

    Raises: InputError for a function that fails or returns anything else.
    """
    return _listed(config, "training.stages", name, system, Stage)


def own_transformation(config: Config, key: str, name: str) -> optax.GradientTransformation:
    """The optax transformation that a function returns.

    Raises: InputError for a function that fails or returns anything else.
    """
    found = config.code.call(key, name, {})
    if not isinstance(found, optax.GradientTransformation):
        raise InputError(
            f"{key}: {name} returned {_described(found)}; it must return an optax transformation, "
            "such as optax.adamw(1e-3)."
        )
    return found


def own_observations(config: Config, name: str, system: System) -> list[AbstractObservation]:
    """The observations that a function returns; see `own_stages`."""
    return _listed(config, "data.observe", name, system, AbstractObservation)


def own_penalties(config: Config, name: str, system: System) -> list[AbstractPenalty]:
    """The penalties that a function returns; see `own_stages`."""
    return _listed(config, "training.regularise", name, system, AbstractPenalty)


def _listed(config: Config, key: str, name: str, system: System, kind: type[T]) -> list[T]:
    """The list that a function returns."""
    found = config.code.call(key, name, {"system": system, "grid": system.grid})
    wanted = f"it must return a list of {_KINDS[kind]}."
    if not isinstance(found, list | tuple) or not found:
        raise InputError(f"{key}: {name} returned {_described(found)}; {wanted}")
    if strange := [each for each in found if not isinstance(each, kind)]:
        raise InputError(f"{key}: {name} returned a list with {_described(strange[0])}; {wanted}")
    return list(found)


def _check_options(name: str, options: Mapping[str, Any], parameters: tuple[str, ...]) -> None:
    """Refuse options that the function does not ask for, or that are not the config's to give."""
    asked = [each for each in parameters if each not in ("grid", "key")]
    if strange := [each for each in options if each not in asked]:
        raise InputError(
            f"system.options has {strange[0]!r}, but {name} can be given "
            f"{', '.join(map(repr, asked)) or 'none'}."
        )


def _check_names(key: str, system: System) -> None:
    """Refuse names that a forecast file cannot hold, in which truths stand beside forecasts."""
    learned_names = (name for latent in latents_of(system) for name in latent.names)
    names = [*system.fields, *system.integrals, *learned_names, *system.sample_parameters]
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
