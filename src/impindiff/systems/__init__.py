"""Systems of equations, put together from terms."""

from impindiff.systems._advection_diffusion import advection_diffusion
from impindiff.systems._affine_tendency import AffineTendency
from impindiff.systems._balances import BalanceChanges, balances, relative_defect
from impindiff.systems._corrected import CorrectedTendency
from impindiff.systems._ensemble import Ensemble, Spread
from impindiff.systems._flux_of import FluxOf, carriers
from impindiff.systems._limits import check_readings, check_within
from impindiff.systems._overshoot import oscillating
from impindiff.systems._prepared import PreparedSystem
from impindiff.systems._reaction import Reaction
from impindiff.systems._samples import Samples
from impindiff.systems._starts import InitialTime, initial_time, learned_starts, starts_of
from impindiff.systems._state_tendency import StateTendency
from impindiff.systems._supply import Supply
from impindiff.systems._system import System

__all__ = [
    "AffineTendency",
    "BalanceChanges",
    "CorrectedTendency",
    "Ensemble",
    "FluxOf",
    "InitialTime",
    "PreparedSystem",
    "Reaction",
    "Spread",
    "StateTendency",
    "Supply",
    "Samples",
    "System",
    "advection_diffusion",
    "balances",
    "carriers",
    "check_readings",
    "check_within",
    "initial_time",
    "learned_starts",
    "oscillating",
    "relative_defect",
    "starts_of",
]
