"""Runs: a config and data become a folder with everything that came of them."""

from impindiff.runs._certify import Certificate, certify
from impindiff.runs._feasibility import plan_run
from impindiff.runs._folder import RunFolder, new_folder
from impindiff.runs._run_plan import RunPlan
from impindiff.runs._train_run import simulate_run, train_run
from impindiff.runs._trained import evaluate_run, forecast_run, forecast_run_to, trained_system
from impindiff.runs._user_code import check_trusted, open_config

__all__ = [
    "Certificate",
    "RunFolder",
    "RunPlan",
    "certify",
    "check_trusted",
    "evaluate_run",
    "forecast_run",
    "forecast_run_to",
    "new_folder",
    "open_config",
    "plan_run",
    "simulate_run",
    "train_run",
    "trained_system",
]
