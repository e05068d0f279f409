"""What the numbers of a run say: the headline figures, and how good the forecast is in sentences.

Every statement is computed. Where the truth is unknown, or a run did not record something,
nothing is said.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from impindiff.report._baselines import is_of_zero, of_no_change, of_variation
from impindiff.report._facts import epoch_seconds, first_epoch_seconds
from impindiff.report._format import count, data_size, duration, listing, percent, plain, unit_of
from impindiff.report._frames import Variable
from impindiff.report._load import FieldError, ReadingError, RunFolder, mapping, number, numbers

# Error [%], relative and of how much the data vary, up to which a forecast deserves the word.
_VERDICTS = (
    (0.5, "to the eye the same as the data"),
    (2.0, "very close to the data"),
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
    field_names = _join(_without_spreads(fields)) or "the process"
    if not latents:
        return f"How well is {field_names} forecast?"
    unknown = _join(_without_spreads(latents))
    return (
        f"Can {unknown} be learned from measurements of {field_names}, and {field_names} forecast?"
    )


def _without_spreads(variables: Sequence[Variable]) -> list[str]:
    """Names of variables, without the standard deviations that an ensemble puts beside them."""
    names = [variable.name for variable in variables]
    return [name for name in names if name.removesuffix("_std") not in set(names) - {name}]


def cards_of(run: RunFolder, fields: Sequence[Variable]) -> list[Card]:
    """The headline figures, errors first."""
    by_name = {field.name: field for field in fields}
    unit = _time_unit(run)
    cards = []
    for name, error in run.errors.items():
        moment = f"t = {plain(error.time[-1], run.time_digits)}{unit}"
        detail = f"{name} against the data at {moment}, relative L1"
        value = percent(error.l1[-1])
        if _is_relative_to_nothing(error, by_name.get(name)):
            value, detail = "\u2014", f"{detail}: the data are zero"
        still = of_no_change(by_name[name], float(error.time[-1])) if name in by_name else math.nan
        if math.isfinite(still):
            detail += f"; where nothing changes {percent(still)}"
        cards.append(Card(value, "forecast error", detail))
    for name, parts in run.readings.items():
        cards += [_card_of(run, name, part, error) for part, error in parts.items()]
    if not cards:
        cards.append(Card("\u2014", "forecast error", "nothing to compare the forecast with"))
    for name, error in run.latent_errors.items():
        detail = "inferred, against its truth, relative L2"
        cards.append(Card(percent(error), f"error of {name}", detail))
    return cards + _cost_cards(run)


def _cost_cards(run: RunFolder) -> list[Card]:
    history = run.history
    seconds = number(run.summary.get("training_seconds"))
    if math.isnan(seconds) and len(history):
        seconds = float(history["seconds"][-1])
    epochs = number(run.summary.get("epochs"))
    if math.isnan(epochs) and len(history):
        epochs = float(history["epoch"][-1])
    memory = number(run.summary.get("peak_memory_bytes"))
    parameters = number(run.summary.get("trainable_parameters"))
    median, first = epoch_seconds(run), first_epoch_seconds(run)
    each = f"{duration(median)} each (median)" if math.isfinite(median) else ""
    if each and first > 2 * median:
        each += f", the first {duration(first)}"
    cards = [
        Card(duration(seconds), "training time") if seconds >= 0 else None,
        Card(data_size(memory), "peak memory") if memory >= 0 else None,
        Card(count(epochs), "epochs", each) if epochs >= 0 else None,
        Card(count(parameters), "trainable parameters") if parameters >= 0 else None,
    ]
    if run.learned_nothing:
        cards = cards[1:2]
    return [card for card in cards if card is not None]


def _card_of(run: RunFolder, name: str, part: str, error: ReadingError) -> Card:
    detail = f"{name}, root mean square of {count(error.count)} readings"
    if math.isfinite(error.chi2):
        detail += f", chi squared per reading {_three_digits(error.chi2)}"
    value = f"{_three_digits(error.rmse)}{_units(run, name)}"
    return Card(value, f"error of readings{run.part_name(part)}", detail)


def _reading_sentences(run: RunFolder) -> list[str]:
    sentences = []
    for name, parts in run.readings.items():
        phrases = [
            f"{_three_digits(error.rmse)}{_units(run, name)} off the {count(error.count)} "
            f"readings{run.part_name(part)} (root mean square"
            + (
                f"; chi squared per reading {_three_digits(error.chi2)})"
                if math.isfinite(error.chi2)
                else ")"
            )
            for part, error in parts.items()
        ]
        sentences.append(f"For {name}, the model is {_join(phrases)}.")
    if any(math.isfinite(e.chi2) for parts in run.readings.values() for e in parts.values()):
        sentences.append(
            "Chi squared per reading is the mean square error in units of the stated noise: "
            "about 1 for a model that is right."
        )
    return sentences


def _three_digits(value: float) -> str:
    return plain(float(f"{value:.3g}"))


def _units(run: RunFolder, name: str) -> str:
    named = mapping(run.summary.get("reading_units")).get(name)
    if named is None and name in run.forecast:
        named = run.forecast[name].attrs.get("units")
    return unit_of(str(named or ""))


def verdict_of(run: RunFolder, fields: Sequence[Variable]) -> list[str]:
    """How good the run is: the first sentence is the answer, the rest is its evidence."""
    by_name = {field.name: field for field in fields}
    compared = [(name, error, by_name.get(name)) for name, error in run.errors.items()]
    sentences = [_forecast_sentence(run, *each) for each in compared]
    sentences += _reading_sentences(run)
    if not sentences:
        sentences = [
            "The data hold nothing to compare this forecast with, "
            "so this run cannot say how good it is."
        ]
    sentences += _growth_sentences(run) + _comparison(run, by_name)
    if run.latent_errors:
        parts = [
            f"{name} is {percent(error)} off its truth" for name, error in run.latent_errors.items()
        ]
        sentences.append(f"The unknown was inferred, never shown: {_join(parts)} (relative L2).")
    if run.learned_nothing:
        nothing = "Nothing was learned: all is known here, and this is the forward model alone."
        sentences.insert(0, nothing)
    return sentences


def _forecast_sentence(run: RunFolder, name: str, error: FieldError, field: Variable | None) -> str:
    final, time = float(error.l1[-1]), float(error.time[-1])
    moment = f"t = {plain(time, run.time_digits)}{_time_unit(run)}"
    if _is_relative_to_nothing(error, field):
        found = f"At {moment} data of {name} are zero, so its forecast has no relative error"
        varied = math.nan if field is None else of_variation(field, time)
        if not math.isfinite(varied):
            return f"{found}{_unseen(run, time)}."
        found += f"; it is {percent(varied)} of how much the data vary off"
        return f"{found}{_unseen(run, time)}: {_verdict(varied)}."
    if not math.isfinite(final):
        return f"At {moment} the forecast of {name} is not finite: it broke down on the way."
    verdict, measure = _verdict(final), "relative L1"
    varied = math.nan if field is None else of_variation(field, time)
    if math.isfinite(varied) and _verdict(max(varied, final)) != verdict:
        measure += f"; {percent(varied)} of how much the data vary"
        verdict = _verdict(varied)
    still = math.nan if field is None else of_no_change(field, time)
    if 0 < still <= final:
        verdict = f"no better than {_no_change(run)}"
    found = f"At {moment} the forecast of {name} is {percent(final)} off the data ({measure})"
    return f"{found}{_unseen(run, time)}: {verdict}."


def _is_relative_to_nothing(error: FieldError, field: Variable | None) -> bool:
    """Whether the last error is infinite only because the data are zero."""
    lost = not math.isfinite(error.l1[-1])
    return lost and field is not None and is_of_zero(field, float(error.time[-1]))


def _verdict(error: float) -> str:
    return next(word for bound, word in _VERDICTS if error <= bound)


def _unseen(run: RunFolder, time: float) -> str:
    tested, trained = (numbers(run.summary.get(k)) for k in ("samples", "training_samples"))
    if not tested:
        return ""
    one = len(tested) == 1
    which = "for one sample" if one else f"on average over {len(tested)} samples"
    if not trained:
        return f" {which}"
    seen = len(set(tested) & set(trained))
    if seen == 0:
        return f" {which} never seen in training"
    last = max(numbers(run.summary.get("training_times")), default=math.inf)
    until = f" up to t = {plain(last, run.time_digits)}{_time_unit(run)}" if last < time else ""
    share = "" if one else "all of " if seen == len(tested) else f"{seen} of "
    return f" {which}, {share}which training has seen{until}"


def _growth_sentences(run: RunFolder) -> list[str]:
    trained, unit = numbers(run.summary.get("training_times")), _time_unit(run)
    growth: dict[str, list[str]] = {}
    for name, error in run.errors.items():
        if not trained or not error.time[-1] > max(trained) > run.start:
            continue
        if not math.isfinite(error.l1[-1]):
            continue  # said already
        horizon, start = max(trained), run.start
        at = int(np.argmin(np.abs(error.time - horizon)))
        # The data may hold nothing of a field at the last time that was trained on.
        close = math.isclose(error.time[at], horizon, rel_tol=1e-4)
        moment = "" if close else f" at t = {plain(error.time[at], run.time_digits)}{unit}"
        reach = f"{(error.time[-1] - start) / (horizon - start):.3g}"
        growth.setdefault(reach, []).append(
            f"in {name} goes from {percent(error.l1[at])}{moment} to {percent(error.l1[-1])}"
        )
    return [
        f"Training saw t = {listing(trained, run.time_digits)}{unit}; the forecast reaches {reach} "
        f"times as far, and its error {_join(parts)}."
        for reach, parts in growth.items()
    ]


def _comparison(run: RunFolder, fields: Mapping[str, Variable]) -> list[str]:
    """What a forecast in which nothing changes would be off, field by field."""
    parts = []
    for name, error in run.errors.items():
        still = of_no_change(fields[name], float(error.time[-1])) if name in fields else 0.0
        if math.isfinite(still) and still > 0:
            parts.append(f"{percent(still)} off in {name}")
    if not parts:
        return []
    return [f"For comparison, {_no_change(run)} would be {_join(parts)}."]


def _no_change(run: RunFolder) -> str:
    """The forecast that keeps the first data, which may be later than the start."""
    first = float(run.forecast["time"][0])
    since = f" after t = {plain(first, run.time_digits)}{_time_unit(run)}"
    return f"a forecast in which nothing changes{since if first > run.start else ''}"


def _time_unit(run: RunFolder) -> str:
    time = run.forecast.get("time")
    return "" if time is None else unit_of(str(time.attrs.get("units", "")))


def _join(parts: Sequence[str]) -> str:
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else "".join(parts)
