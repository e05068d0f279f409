"""The run folder as the report reads it.

The summary and the forecast must be there; everything else only adds to the page, so what is
missing or cut short (a run that was killed, an older run) leaves a gap, which is named, and never
an error.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from impindiff._errors import InputError, warn_caller
from impindiff._files import MOST_BYTES, read_object, read_whole
from impindiff.data import open_dataset
from impindiff.report._format import digits_apart, printable, spans

_COLUMNS = ("epoch", "loss", "validation", "seconds", "solver_iterations", "adjoint_iterations")


@dataclass(frozen=True)
class History:
    """The training, a row an epoch: what was not recorded, or is not a number, is NaN.

    `missing_epochs` names those that were trained, and have no row.
    """

    columns: Mapping[str, np.ndarray]
    stages: list[str]
    unreadable_lines: int
    missing_epochs: str = ""

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.stages)


@dataclass(frozen=True)
class FieldError:
    """The error of one field against time, in percent of the truth's norm."""

    time: np.ndarray
    l1: np.ndarray
    l2: np.ndarray


@dataclass(frozen=True)
class ReadingError:
    """Of some readings of one instrument, see `impindiff.forecast.ReadingError`."""

    rmse: float
    chi2: float
    count: int


@dataclass(frozen=True)
class RunFolder:
    """What a run left behind.

    Args:
        path: the folder.
        summary: `summary.json` as it is; `errors` and `latent_errors` are its checked parts.
        errors: error against time of every field whose truth is known.
        latent_errors: relative L2 error [%] of every latent whose truth is known.
        readings: of every instrument the errors of its readings, by "trained" and "held_back".
        forecast: `forecast.nc`, in memory.
        history: `metrics.jsonl`.
        provenance: `provenance.json`, empty where there is none.
        config: the text of `config.toml`, empty where there is none.
    """

    path: Path
    summary: Mapping[str, Any]
    errors: Mapping[str, FieldError]
    latent_errors: Mapping[str, float]
    readings: Mapping[str, Mapping[str, ReadingError]]
    forecast: xr.Dataset
    history: History
    provenance: Mapping[str, Any]
    config: str

    def part_name(self, part: str) -> str:
        """What to add to "readings" for one part of an instrument's, see `readings`."""
        # Without training nothing is held back from it.
        names = {"trained": " trained on", "held_back": " held back"}
        return "" if self.learned_nothing else names[part]

    @cached_property
    def time_digits(self) -> int:
        """The digits that tell the times of the run apart, wherever they are written."""
        times = numbers(self.summary.get("training_times"))
        for found in (self.forecast.get("time"), *(error.time for error in self.errors.values())):
            times += [] if found is None else np.ravel(found).astype(float).tolist()
        return digits_apart(np.unique(times).tolist())

    @property
    def start(self) -> float:
        """When the forecast began: its first time, unless the summary says earlier; or NaN."""
        if "time" not in self.forecast:
            return math.nan
        first, start = float(self.forecast["time"][0]), number(self.summary.get("start"))
        return min(first, start) if math.isfinite(start) else first

    @property
    def learned_nothing(self) -> bool:
        """Whether all was known; of an old run whose summary does not say so, False."""
        return self.summary.get("training_samples") == [] and not len(self.history)


def load_run(path: Path) -> RunFolder:
    """Read a run folder.

    Raises: InputError if it is none, or if its summary or its forecast is missing or unreadable.
    Warns: RuntimeWarning for what else of it is missing or damaged.
    """
    if not path.is_dir():
        found = "is a file" if path.exists() else "does not exist"
        raise InputError(
            f"{path} {found}: a report is made from a run folder, the one that `impindiff run` or "
            "`impindiff train` wrote."
        )
    for name in ("summary.json", "forecast.nc"):
        if os.path.lexists(path / name) and not (path / name).is_file():
            raise InputError(
                f"{path / name} is no file, but a folder, a pipe or a link that leads nowhere: "
                f"move it away. {_again(path)} writes it again."
            )
        if not (path / name).is_file():
            raise InputError(
                f"{path} holds no {name}, so it is not the folder of a finished run. "
                f"It holds: {_listing(path)}. "
                f"If the training was interrupted, {_again(path)} finishes it. If it failed, "
                f"`impindiff forecast {path} ...` works from what was saved."
            )
    summary = _summary(path / "summary.json")
    forecast = open_dataset(path / "forecast.nc")
    if empty := [str(name) for name, size in forecast.sizes.items() if size == 0]:
        raise InputError(
            f"{path / 'forecast.nc'} is empty along {', '.join(empty)}: there is nothing to draw. "
            f"{_again(path)} writes it again."
        )
    return RunFolder(
        path=path,
        summary=summary,
        errors=_field_errors(path, summary),
        latent_errors=_latent_errors(summary),
        readings=_readings(summary),
        forecast=forecast,
        history=_history(path / "metrics.jsonl", number(summary.get("epochs"))),
        provenance=_provenance(path / "provenance.json"),
        config=_text(path / "config.toml", MOST_BYTES),
    )


def number(value: object) -> float:
    """A JSON value as a float; NaN if it is no number, or a whole one beyond all floats."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def numbers(value: object) -> list[float]:
    """A JSON value as a list of finite floats, empty if it is no list."""
    listed = [number(item) for item in value] if isinstance(value, list) else []
    return [item for item in listed if math.isfinite(item)]


def texts(value: object) -> list[str]:
    """A JSON value as a list of texts, empty if it is no list."""
    return [str(item) for item in value] if isinstance(value, list) else []


def mapping(value: object) -> Mapping[str, Any]:
    """A JSON value as a mapping, empty if it is none."""
    return value if isinstance(value, dict) else {}


def _summary(path: Path) -> Mapping[str, Any]:
    try:
        summary = read_object(path)
        if not isinstance(summary.get("fields"), dict):
            raise ValueError("has no object 'fields'")
        return summary
    except (OSError, ValueError) as error:
        reason = str(error.strerror or error) if isinstance(error, OSError) else str(error)
        said = f"it {reason}" if reason.startswith(("is ", "has ", "holds ")) else reason
        raise InputError(
            f"{path} cannot be read: {said}. A summary is a JSON object with the "
            f"keys fields, latent and samples; {_again(path.parent)} writes it again."
        ) from error


def _again(run: Path) -> str:
    return f"`impindiff train {run / 'config.toml'} --out {run} --resume`"


def _field_errors(path: Path, summary: Mapping[str, Any]) -> dict[str, FieldError]:
    errors = {}
    for name, entry in mapping(summary.get("fields")).items():
        entry = mapping(entry)
        lists = [entry.get(key) for key in ("time", "relative_l1_percent", "relative_l2_percent")]
        lists = [item if isinstance(item, list) else [] for item in lists]
        time, l1, l2 = ([number(value) for value in item] for item in lists)
        if not len(time) == len(l1) == len(l2):
            raise InputError(
                f"{path / 'summary.json'}: fields.{name} has {len(time)} times, {len(l1)} values "
                f"of relative_l1_percent and {len(l2)} of relative_l2_percent; they must agree. "
                f"{_again(path)} writes it again."
            )
        known = np.isfinite(time)
        if known.any() and np.isfinite(l1 + l2).any():
            errors[name] = FieldError(*(np.array(item)[known] for item in (time, l1, l2)))
    return errors


def _latent_errors(summary: Mapping[str, Any]) -> dict[str, float]:
    found = {
        name: number(mapping(entry).get("relative_l2_percent"))
        for name, entry in mapping(summary.get("latent")).items()
    }
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _readings(summary: Mapping[str, Any]) -> dict[str, dict[str, ReadingError]]:
    found: dict[str, dict[str, ReadingError]] = {}
    for name, entry in mapping(summary.get("readings")).items():
        parts = {part: mapping(mapping(entry).get(part)) for part in ("held_back", "trained")}
        errors = {
            part: ReadingError(
                number(of.get("rmse")), number(of.get("chi2_per_reading")), int(of["count"])
            )
            for part, of in parts.items()
            if 0 < number(of.get("count")) < math.inf and math.isfinite(number(of.get("rmse")))
        }
        if errors:
            found[name] = errors
    return found


# No training has more; of a summary that says so nothing is taken for missing.
_MOST_EPOCHS = 10**7


def _history(path: Path, epochs: float) -> History:
    rows, unreadable = [], 0
    for line in _text(path).splitlines():
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict) and math.isfinite(number(row.get("epoch"))):
            rows.append(row)
        else:
            unreadable += 1
    columns = {name: np.array([number(row.get(name)) for row in rows]) for name in _COLUMNS}
    known = {int(epoch) for epoch in columns["epoch"]}
    last = int(epochs) if 0 <= epochs <= _MOST_EPOCHS else 0
    missing = spans([epoch for epoch in range(1, last + 1) if epoch not in known])
    if missing:
        _warn(f"{path} says nothing of epochs {missing}, which were trained")
    stages = [printable(str(row.get("stage") or "")) for row in rows]
    return History(columns, stages, unreadable, missing)


def _provenance(path: Path) -> Mapping[str, Any]:
    try:
        return read_object(path)
    except OSError as error:
        _warn(f"{path} cannot be read ({error.strerror or error})")
    except ValueError as error:
        _warn(f"{path} {error}")
    return {}


def _warn(what: str) -> None:
    warn_caller(f"{what}: the report leaves a gap.")


def _text(path: Path, most: int | None = None) -> str:
    try:
        return read_whole(path, most).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        _warn(f"{path} cannot be read ({error.strerror or error})")
        return ""


def _listing(path: Path) -> str:
    names = sorted(entry.name for entry in path.iterdir())
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"
