"""Calls of `fit` and of optimisers as version 0.1.0 had them.

Today all about a stage stands in its `Stage`, and how to compute, validate, watch and save in
`FitOptions`. For one version such calls are still understood.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from impindiff._errors import InputError, as_names, warn_caller
from impindiff.train._fit_options import FitOptions, Validation
from impindiff.train._optimisers import AbstractOptimiser
from impindiff.train._stages import Stage

P = ParamSpec("P")
R = TypeVar("R")

_OF_OPTIONS = {field.name for field in fields(FitOptions)}
_OF_VALIDATION = {
    "validate": "error",
    "validate_every": "every",
    "early_stopping": "early_stopping",
}


def stage_as_stated_today(
    optimiser: type[AbstractOptimiser], positional: Sequence[Any], named: Mapping[str, Any]
) -> Stage:
    """The stage that an optimiser with a number of epochs was, such as `LBFGS(200)`.

    Args:
        optimiser: the class that was called.
        positional: the arguments by position, of which the first was the number of epochs.
        named: the others.

    Warns: DeprecationWarning that says how it is written today.
    """
    epochs, *others = positional
    rest = dict(named)
    of_stage = {name: rest.pop(name) for name in ("dt", "freeze") if name in rest}
    if "batching" in rest:
        of_stage["batches"] = rest.pop("batching")
    name = optimiser.__name__
    warn_caller(
        f"{name}({epochs}, ...): epochs, dt, batches and freeze are said of the stage, "
        f"Stage({name}(...), {epochs}).",
        DeprecationWarning,
    )
    return Stage(optimiser(*others, **rest), epochs, **of_stage)


def takes_earlier_calls(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, which understands the arguments that `FitOptions` has taken over."""

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        named = _as_stated_today(function.__name__, kwargs)
        return function(*args, **named)  # pyright: ignore[reportCallIssue]

    return called


def _as_stated_today(function: str, named: Mapping[str, Any]) -> dict[str, Any]:
    today = dict(named)
    if "dataset" in today:
        today["data"] = today.pop("dataset")
    options = {name: today.pop(name) for name in _OF_OPTIONS if name in today}
    validation = {
        now: today.pop(earlier) for earlier, now in _OF_VALIDATION.items() if earlier in today
    }
    frozen = as_names(today.pop("freeze", ()), "freeze")
    first = next(iter([*options, *validation, *(["freeze"] if frozen else [])]), None)
    if first is None:
        return today
    if frozen:
        if today.get("stages") is None:
            raise InputError(
                f"{function}(freeze={list(frozen)}): freeze is said of a stage; give the stages, "
                f"such as stages=[Stage(LBFGS(), 200, freeze={list(frozen)})]."
            )
        today["stages"] = [_with_frozen(stage, frozen) for stage in today["stages"]]
    if validation:
        options["validation"] = Validation(**validation)
    if options:
        if "options" in today:
            raise InputError(
                f"{function}({first}=..., options=...): {first} is said in the options, "
                f"FitOptions({_today(first)})."
            )
        options = {
            name: value for name, value in options.items() if name != "stepper" or value is not None
        }
        today["options"] = FitOptions(**options)
    remedy = "Stage(..., freeze=...)" if first == "freeze" else f"FitOptions({_today(first)})"
    warn_caller(f"{function}({first}=...): this is written {remedy} now.", DeprecationWarning)
    return today


def _with_frozen(stage: Stage, frozen: tuple[str, ...]) -> Stage:
    freeze = (*stage.freeze, *(name for name in frozen if name not in stage.freeze))
    return replace(stage, freeze=freeze)


def _today(name: str) -> str:
    if name in _OF_VALIDATION:
        return f"validation=Validation({_OF_VALIDATION[name]}=...)"
    return f"{name}=..."
