"""Forecasts by trained systems, and how good they are."""

from impindiff.forecast._balances import BalanceScore, balances_of
from impindiff.forecast._ensemble import predict_ensemble
from impindiff.forecast._evaluate import FieldErrors, LatentError, Scores, evaluate
from impindiff.forecast._initial_condition import forecast_start
from impindiff.forecast._predict import (
    HALVED,
    SOLVER,
    carry_forward,
    compile_forward,
    forecast_times,
    predict,
)
from impindiff.forecast._reading_scores import UNSEEN, ReadingError, ReadingScore, Seen
from impindiff.forecast._stored import check_zarr
from impindiff.forecast._stream import Stored, continue_forecast, forecast_to
from impindiff.forecast._tables import is_table, truth_at

__all__ = [
    "HALVED",
    "SOLVER",
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
