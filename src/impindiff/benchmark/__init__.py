"""Measuring speed, memory and accuracy: finding and running the scripts of `benchmarks/`."""

from impindiff.benchmark._measure import announce, leave_out, machine, median_seconds
from impindiff.benchmark._run import Measured, run_benchmark
from impindiff.benchmark._scripts import list_benchmarks

__all__ = [
    "Measured",
    "announce",
    "leave_out",
    "list_benchmarks",
    "machine",
    "median_seconds",
    "run_benchmark",
]
