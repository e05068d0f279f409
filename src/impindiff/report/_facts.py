"""The tables of the page: how the run was set up, what it cost, where it comes from."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from impindiff.data import is_sample_parameter
from impindiff.report._format import count, data_size, duration, listing, plain, unit_of
from impindiff.report._frames import Variable
from impindiff.report._load import RunFolder, mapping, number, numbers, texts

Facts = list[tuple[str, str]]


def setting_of(run: RunFolder) -> Facts:
    """What was trained on, how, and what was forecast."""
    summary, unit = run.summary, ""
    if "time" in run.forecast:
        unit = unit_of(str(run.forecast["time"].attrs.get("units", "")))
    times = listing(numbers(summary.get("training_times")), run.time_digits)
    facts = [
        ("Trained on samples", listing(numbers(summary.get("training_samples")))),
        ("Trained at", f"t = {times}{unit}" if times else ""),
        ("Forecast for samples", listing(numbers(summary.get("samples")))),
        *_known_of_samples(run),
        ("Instruments", ", ".join(_instruments(run))),
        ("Time scheme", str(summary.get("time_scheme") or "")),
        ("Time step", _time_step(summary, unit)),
        ("Stages of training", _stages(run.history.stages)),
        ("Warnings of the training", " ".join(texts(run.summary.get("warnings")))),
        ("Steps halved in the forecast", str(run.summary.get("halved_steps") or "")),
    ]
    return [(label, value) for label, value in facts if value]


def _instruments(run: RunFolder) -> list[str]:
    """The instruments whose readings the forecast is compared with, and how many they are."""
    counted = []
    for name, parts in run.readings.items():
        counts = [
            f"{count(error.count)} readings{run.part_name(part)}" for part, error in parts.items()
        ]
        counted.append(f"{name} ({', '.join(counts)})")
    return counted


def _known_of_samples(run: RunFolder) -> Facts:
    """The parameters of the samples that were forecast."""
    return [
        (
            f"{name} of these samples",
            listing(of.to_numpy().tolist()) + unit_of(str(of.attrs.get("units", ""))),
        )
        for name, of in run.forecast.data_vars.items()
        if is_sample_parameter(of)
    ]


def cost_of(run: RunFolder) -> Facts:
    """The time and the memory that the run took."""
    training, total = (number(run.summary.get(f"{name}_seconds")) for name in ("training", "total"))
    memory = number(run.summary.get("peak_memory_bytes"))
    # Of the run's own steps; making or reading the data came before.
    with_forecast = "Forecast" if run.learned_nothing else "Training, forecast"
    facts = [
        ("Training", "" if run.learned_nothing else _if_known(training, duration)),
        ("The first epoch, with compilation", _if_known(first_epoch_seconds(run), duration)),
        ("An epoch (median)", _if_known(epoch_seconds(run), duration)),
        (f"{with_forecast} and scores", _if_known(total, duration)),
        ("Peak memory", _if_known(memory, data_size)),
    ]
    return [(label, value) for label, value in facts if value]


def balances_of(run: RunFolder) -> Facts:
    """What must stay the same in the forecast: how its parts have changed, and what is missing."""
    facts = []
    for name, entry in mapping(run.summary.get("balances")).items():
        entry = mapping(entry)
        unit, defect = unit_of(str(entry.get("units", ""))), number(entry.get("worst_defect"))
        changes = [
            f"{part} {_signed(float(np.mean(values)))}{unit}"
            for part, given in mapping(entry.get("changes")).items()
            if (values := numbers(given))
        ]
        if changes and math.isfinite(defect):
            facts.append((str(name), f"{', '.join(changes)}; defect {defect:.1e}"))
    return facts


def _signed(change: float) -> str:
    return f"{'+' if change > 0 else ''}{plain(float(f'{change:.4g}'))}"


def provenance_of(run: RunFolder) -> Facts:
    """`provenance.json`, an entry a row: whatever it holds, and nothing made up."""
    return [
        (str(key).replace("_", " "), _flat(value))
        for key, value in run.provenance.items()
        if value not in (None, "", {}, [])
    ]


def scalars_of(latents: Sequence[Variable]) -> list[tuple[str, str, str]]:
    """The latents that are single numbers: name, inferred, truth."""
    return [
        (
            latent.name,
            _value(latent),
            plain(float(latent.truth)) if latent.truth is not None else "not known",
        )
        for latent in latents
        if not latent.axes
    ]


def _value(latent: Variable) -> str:
    unit = unit_of(str(latent.forecast.attrs.get("units", "")))
    return f"{plain(float(latent.forecast))}{unit}"


def _time_step(summary: Mapping[str, Any], unit: str) -> str:
    if "dt" in summary and summary["dt"] is None:
        return str(summary.get("steps") or "controlled by its error")
    return _if_known(number(summary.get("dt")), lambda dt: f"{plain(dt)}{unit}")


def _if_known(value: float, write: Callable[[float], str]) -> str:
    return write(value) if math.isfinite(value) else ""


def epoch_seconds(run: RunFolder) -> float:
    """The median length of an epoch, which leaves the compilation in the first one out."""
    with np.errstate(divide="ignore", invalid="ignore"):
        # Of a killed run rows may be missing in between.
        spans = np.diff(run.history["seconds"]) / np.diff(run.history["epoch"])
    spans = spans[np.isfinite(spans) & (spans >= 0)]
    return float(np.median(spans)) if len(spans) else math.nan


def first_epoch_seconds(run: RunFolder) -> float:
    """The length of the first epoch, in which the programs are compiled."""
    begun = len(run.history) > 0 and run.history["epoch"][0] == 1
    return float(run.history["seconds"][0]) if begun else math.nan


def _stages(stages: Sequence[str]) -> str:
    lengths = [(name or "training", len(list(group))) for name, group in groupby(stages)]
    return ", ".join(f"{name} ({count(length)} epochs)" for name, length in lengths)


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_flat(item) for item in value)
    return str(value)
