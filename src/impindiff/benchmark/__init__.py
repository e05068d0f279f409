"""Measuring speed, memory and accuracy: finding and running the scripts of `benchmarks/`."""

from impindiff.benchmark._measure import announce, leave_out, machine, median_seconds
from impindiff.benchmark._run import Measured, run_benchmark
from impindiff.benchmark._scripts import list_benchmarks
from impindiff.benchmark._training import (
    case_data,
    case_files,
    command,
    cost_of,
    epochs_of,
    errors_of,
    train_once,
)

__all__ = [
    "Measured",
    "announce",
    "case_data",
    "case_files",
    "command",
    "cost_of",
    "epochs_of",
    "errors_of",
    "leave_out",
    "list_benchmarks",
    "machine",
    "median_seconds",
    "run_benchmark",
    "train_once",
]
