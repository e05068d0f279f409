"""What a built-in case is: a way to make its data, and a recipe to train on it."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, final

import xarray as xr

from impindiff._errors import InputError


@final
@dataclass(frozen=True)
class Case:
    """A built-in case.

    Attributes:
        name: as on the command line.
        summary: one line.
        generate: makes the data; takes `samples` and `seed`, each with a default, and may take
            more.
        recipe_file: TOML config beside this module, the preset `paper`.
        changes: for each further preset, what it changes in that config, by dotted keys.
    """

    name: str
    summary: str
    generate: Callable[..., xr.Dataset]
    recipe_file: str
    changes: Mapping[str, Mapping[str, Any]]

    @property
    def presets(self) -> tuple[str, ...]:
        """Names of the presets."""
        return ("paper", *self.changes)

    def recipe(self, preset: str) -> dict[str, Any]:
        """The config of a preset, as nested dictionaries.

        Raises: InputError for a preset that does not exist.
        """
        if preset not in self.presets:
            raise InputError(
                f"case {self.name!r} has no preset {preset!r}; allowed: {', '.join(self.presets)}."
            )
        text = resources.files("impindiff.cases").joinpath(self.recipe_file).read_text()
        recipe = tomllib.loads(text)
        for key, value in self.changes.get(preset, {}).items():
            *parents, last = key.split(".")
            table = recipe
            for parent in parents:
                table = table[parent]
            table[last] = value
        return recipe
