"""Many steps: time grids, trajectories, what is saved on the way."""

from impindiff.rollout._failures import StepOutcome, StepResult
from impindiff.rollout._initial_state import check_before, consistent, explain_range
from impindiff.rollout._march import Begun
from impindiff.rollout._memory import (
    KeepAll,
    MemoryBudget,
    MemoryPolicy,
    Snapshots,
    format_bytes,
    parse_bytes,
)
from impindiff.rollout._retries import (
    HalvedStep,
    RescuedTrajectory,
    cause_of,
    describe_halvings,
    own_failures,
    rescue,
    simulate_with_rescue,
)
from impindiff.rollout._ringing import find_ringing, may_ring
from impindiff.rollout._simulate import StepFailed, Trajectory, simulate
from impindiff.rollout._snapshot_schedule import least_steps
from impindiff.rollout._solver_choice import (
    Choice,
    has_failed_solve,
    select_for_samples,
    select_solver,
)
from impindiff.rollout._stability import advice_of, stable_dt, vanishing
from impindiff.rollout._steady import SteadyState, steady, uniform_guess
from impindiff.rollout._step_control import (
    ControlledTrajectory,
    control_samples,
    simulate_controlled,
    spans_of,
    time_error,
)
from impindiff.rollout._sweep import nothing_lost
from impindiff.rollout._times import TimeGrid, check_time_step, step_counts, tidy_time
from impindiff.rollout._tolerances import (
    StepControl,
    check_is_control,
    describe_steps,
    stepper_for,
)

__all__ = [
    "Begun",
    "check_before",
    "check_is_control",
    "check_time_step",
    "Choice",
    "ControlledTrajectory",
    "HalvedStep",
    "KeepAll",
    "MemoryBudget",
    "MemoryPolicy",
    "RescuedTrajectory",
    "Snapshots",
    "SteadyState",
    "StepControl",
    "StepFailed",
    "StepOutcome",
    "StepResult",
    "TimeGrid",
    "Trajectory",
    "advice_of",
    "cause_of",
    "consistent",
    "control_samples",
    "explain_range",
    "describe_halvings",
    "describe_steps",
    "find_ringing",
    "format_bytes",
    "has_failed_solve",
    "least_steps",
    "may_ring",
    "nothing_lost",
    "own_failures",
    "parse_bytes",
    "rescue",
    "select_for_samples",
    "select_solver",
    "simulate",
    "simulate_controlled",
    "simulate_with_rescue",
    "spans_of",
    "stable_dt",
    "steady",
    "step_counts",
    "stepper_for",
    "tidy_time",
    "time_error",
    "uniform_guess",
    "vanishing",
]
