"""What the numbers of a run say: the headline figures, and how good the forecast is in sentences.

Every statement is computed. Where the truth is unknown, or a run did not record something,
nothing is said.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from impindiff.report._facts import epoch_seconds
from impindiff.report._format import count, data_size, duration, listing, percent, plain, unit_of
from impindiff.report._frames import Variable
from impindiff.report._load import FieldError, ReadingError, RunFolder, number, numbers

# Relative L1 error [%] up to which a forecast deserves the word.
_VERDICTS = (
    (0.5, "to the eye the same as the truth"),
    (2.0, "very close to the truth"),
    (10.0, "right in shape, visibly off in detail"),
    (50.0, "only roughly right"),
    (math.inf, "no useful forecast"),
)


@dataclass(frozen=True)
class Card:
    """A headline figure."""

    value: str
    label: str
    detail: str = ""


def title_of(run: RunFolder) -> str:
    """What the run is called: its title, else its folder's name."""
    return str(run.summary.get("title") or run.path.resolve().name)


def question_of(run: RunFolder, fields: Sequence[Variable], latents: Sequence[Variable]) -> str:
    """The question the run answers, in one sentence."""
    if question := run.summary.get("question"):
        return str(question)
    field_names = _join([variable.name for variable in fields]) or "the process"
    if not latents:
        return f"How well is {field_names} forecast?"
    unknown = _join([variable.name for variable in latents])
    return (
        f"Can {unknown} be learned from measurements of {field_names}, and {field_names} forecast?"
    )


def cards_of(run: RunFolder) -> list[Card]:
    """The headline figures, errors first."""
    unit = _time_unit(run)
    cards = []
    for name, error in run.errors.items():
        detail = f"{name} against the data at t = {plain(error.time[-1])}{unit}, relative L1"
        cards.append(Card(percent(error.l1[-1]), "forecast error", detail))
    for name, parts in run.readings.items():
        cards += [_card_of(run, name, part, error) for part, error in parts.items()]
    if not cards:
        cards.append(Card("\u2014", "forecast error", "nothing to compare the forecast with"))
    for name, error in run.latent_errors.items():
        detail = "inferred, against its truth, relative L2"
        cards.append(Card(percent(error), f"error of {name}", detail))
    history = run.history
    seconds = number(run.summary.get("training_seconds"))
    if math.isnan(seconds) and len(history):
        seconds = float(history["seconds"][-1])
    epochs = number(run.summary.get("epochs"))
    if math.isnan(epochs) and len(history):
        epochs = float(history["epoch"][-1])
    memory = number(run.summary.get("peak_memory_bytes"))
    parameters = number(run.summary.get("trainable_parameters"))
    median = epoch_seconds(run)
    each = f"{duration(median)} each (median)" if math.isfinite(median) else ""
    cards += [
        Card(duration(seconds), "training time") if seconds >= 0 else None,
        Card(data_size(memory), "peak memory") if memory >= 0 else None,
        Card(count(epochs), "epochs", each) if epochs >= 0 else None,
        Card(count(parameters), "trainable parameters") if parameters >= 0 else None,
    ]
    return [card for card in cards if card is not None]


# What the parts of an instrument's readings are called.
_PARTS = {"trained": "trained on", "held_back": "held back"}


def _card_of(run: RunFolder, name: str, part: str, error: ReadingError) -> Card:
    label = f"error of readings {_PARTS[part]}"
    detail = f"{name}, root mean square of {count(error.count)} readings"
    if math.isfinite(error.chi2):
        detail += f", chi squared per reading {plain(float(f'{error.chi2:.3g}'))}"
    return Card(f"{plain(float(f'{error.rmse:.3g}'))}{_units(run, name)}", label, detail)


def _reading_sentences(run: RunFolder) -> list[str]:
    sentences = []
    for name, parts in run.readings.items():
        told = [
            f"{plain(float(f'{error.rmse:.3g}'))}{_units(run, name)} from the {count(error.count)} "
            f"readings {_PARTS[part]}"
            + (f" (chi squared per reading {error.chi2:.3g})" if math.isfinite(error.chi2) else "")
            for part, error in parts.items()
        ]
        sentences.append(f"The model is {_join(told)} of {name}, root mean square.")
    return sentences


def _units(run: RunFolder, name: str) -> str:
    # Readings of a field's own name are in its units; those of other instruments say none here.
    found = run.forecast.get(name)
    return "" if found is None else unit_of(str(found.attrs.get("units", "")))


def verdict_of(run: RunFolder, fields: Sequence[Variable]) -> list[str]:
    """How good the run is: the first sentence is the answer, the rest is its evidence."""
    sentences = [_forecast_sentence(run, name, error) for name, error in run.errors.items()]
    sentences += _reading_sentences(run)
    if not sentences:
        sentences = [
            "The data hold nothing to compare this forecast with, "
            "so this run cannot say how good it is."
        ]
    for name, error in run.errors.items():
        sentences += _growth_sentences(run, name, error)
        change = next((_change(field) for field in fields if field.name == name), math.nan)
        if math.isfinite(change) and change > 0:
            sentences.append(
                f"For comparison, a forecast that nothing changes would be {percent(change)} off."
            )
    if run.latent_errors:
        parts = [
            f"{name} is {percent(error)} off its truth" for name, error in run.latent_errors.items()
        ]
        sentences.append(f"The unknown was inferred, never shown: {_join(parts)} (relative L2).")
    return sentences


def _forecast_sentence(run: RunFolder, name: str, error: FieldError) -> str:
    final, moment = float(error.l1[-1]), f"t = {plain(error.time[-1])}{_time_unit(run)}"
    if not math.isfinite(final):
        return f"At {moment} the forecast of {name} is not finite: it broke down on the way."
    verdict = next(word for bound, word in _VERDICTS if final <= bound)
    found = f"At {moment} the forecast of {name} is {percent(final)} off the data (relative L1)"
    return f"{found}{_unseen(run)}: {verdict}."


def _unseen(run: RunFolder) -> str:
    tested, trained = (numbers(run.summary.get(k)) for k in ("samples", "training_samples"))
    if not tested:
        return ""
    if not trained:
        return f" on average over {_samples(len(tested))}"
    seen = len(set(tested) & set(trained))
    if seen == 0:
        return f" on average over {_samples(len(tested))} never seen in training"
    return f" on average over {_samples(len(tested))}, {seen} of which training has seen"


def _growth_sentences(run: RunFolder, name: str, error: FieldError) -> list[str]:
    trained, unit = numbers(run.summary.get("training_times")), _time_unit(run)
    if not trained or not error.time[-1] > max(trained) > error.time[0]:
        return []
    horizon, start = max(trained), float(error.time[0])
    near, last = error.l1[np.argmin(np.abs(error.time - horizon))], error.l1[-1]
    reach = (error.time[-1] - start) / (horizon - start)
    return [
        f"Training saw t = {listing(trained)}{unit}; the forecast reaches {reach:.3g} times as "
        f"far, and its error in {name} goes from {percent(near)} to {percent(last)}."
    ]


def _change(field: Variable) -> float:
    """Relative L1 error [%] of the forecast that the first truth stays, at the last time."""
    truth = field.truth
    if truth is None or "time" not in truth.dims or "sample" not in truth.dims:
        return math.nan
    first, last = (_by_sample(truth.isel(time=index)) for index in (0, -1))
    known = np.isfinite(first) & np.isfinite(last)
    with np.errstate(invalid="ignore", divide="ignore"):
        change = np.where(known, np.abs(last - first), 0).sum(1)
        return float(np.mean(100 * change / np.where(known, np.abs(last), 0).sum(1)))


def _by_sample(values: xr.DataArray) -> np.ndarray:
    array = values.transpose("sample", ...).to_numpy().astype(np.float64)
    return array.reshape(len(array), -1)


def _samples(num_samples: int) -> str:
    return "one sample" if num_samples == 1 else f"{num_samples} samples"


def _time_unit(run: RunFolder) -> str:
    time = run.forecast.get("time")
    return "" if time is None else unit_of(str(time.attrs.get("units", "")))


def _join(parts: Sequence[str]) -> str:
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else "".join(parts)
