"""Forecasts by trained systems, and how good they are."""

from impindiff.forecast._ensemble import predict_ensemble
from impindiff.forecast._evaluate import FieldErrors, LatentError, Scores, evaluate
from impindiff.forecast._predict import carry_forward, forecast_times, predict
from impindiff.forecast._stream import Stored, continue_forecast, forecast_to

__all__ = [
    "FieldErrors",
    "LatentError",
    "Scores",
    "Stored",
    "carry_forward",
    "continue_forecast",
    "evaluate",
    "forecast_times",
    "forecast_to",
    "predict",
    "predict_ensemble",
]
