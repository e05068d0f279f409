"""Forecasts by trained systems, and how good they are."""

from impindiff.forecast._initial_condition import (
    check_truths,
    forecast_start,
    is_table,
    truth_at,
)
from impindiff.forecast._ledger import BalanceScore, balances_of
from impindiff.forecast._predict import (
    HALVED,
    SOLVER,
    STEPS,
    carry_forward,
    compile_forward,
    forecast_times,
    predict,
    predict_ensemble,
)
from impindiff.forecast._scores import (
    UNSEEN,
    FieldErrors,
    LatentError,
    ReadingError,
    ReadingScore,
    Scores,
    Seen,
    evaluate,
)
from impindiff.forecast._stream import Stored, check_zarr, continue_forecast, forecast_to

__all__ = [
    "HALVED",
    "SOLVER",
    "STEPS",
    "UNSEEN",
    "BalanceScore",
    "FieldErrors",
    "LatentError",
    "ReadingError",
    "ReadingScore",
    "Scores",
    "Seen",
    "Stored",
    "balances_of",
    "carry_forward",
    "check_truths",
    "check_zarr",
    "compile_forward",
    "continue_forecast",
    "evaluate",
    "forecast_start",
    "forecast_times",
    "forecast_to",
    "is_table",
    "predict",
    "predict_ensemble",
    "truth_at",
]
