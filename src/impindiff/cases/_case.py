"""What a built-in case is: a way to make its data, and a recipe to train on it."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
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
        folder: beside this module, with the config and the Python that it names.
        changes: for each further preset, what it changes in that config, by dotted keys.
        config_file: the config in that folder, the preset `paper`.
        samples: how many its config needs.
        known: what puts the truth in the place of the unknown, as `--set` takes it; empty for cases
            whose equations cannot be given it.
    """

    name: str
    summary: str
    generate: Callable[..., xr.Dataset]
    folder: str
    changes: Mapping[str, Mapping[str, Any]]
    config_file: str = "config.toml"
    samples: int = 10
    known: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The folder."""
        return Path(__file__).parent / self.folder

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
        recipe = tomllib.loads((self.path / self.config_file).read_text(encoding="utf-8"))
        for key, value in self.changes.get(preset, {}).items():
            *parents, last = key.split(".")
            table = recipe
            for parent in parents:
                table = table[parent]
            table[last] = value
        return recipe


def check_request(samples: int, seed: int) -> None:
    """Refuse what no data can be made for.

    Raises: InputError for fewer than one sample or a negative seed.
    """
    if samples < 1 or seed < 0:
        raise InputError(
            f"data needs at least 1 sample and a seed of 0 or more; found {samples} samples, "
            f"seed {seed}."
        )
