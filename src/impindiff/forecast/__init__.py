"""Forecasts by trained systems, and how good they are."""

from impindiff.forecast._evaluate import FieldErrors, LatentError, Scores, evaluate
from impindiff.forecast._predict import carry_forward, forecast_times, predict

__all__ = [
    "FieldErrors",
    "LatentError",
    "Scores",
    "carry_forward",
    "evaluate",
    "forecast_times",
    "predict",
]
