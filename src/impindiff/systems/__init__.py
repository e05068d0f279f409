"""Systems of equations, put together from terms."""

from impindiff.systems._affine_tendency import AffineTendency, CorrectedTendency
from impindiff.systems._balances import BalanceChanges, balances, relative_defect
from impindiff.systems._bounds import check_readings, check_within
from impindiff.systems._diagnostics import oscillating
from impindiff.systems._ensemble import Ensemble, Spread
from impindiff.systems._fields import Field
from impindiff.systems._flux_of import FluxOf, carriers
from impindiff.systems._prepared import PreparedSystem
from impindiff.systems._samples import Samples
from impindiff.systems._sources import Reaction, Supply
from impindiff.systems._starts import InitialTime, initial_time, learned_starts, starts_of
from impindiff.systems._state_tendency import StateTendency
from impindiff.systems._system import System, advection_diffusion

__all__ = [
    "AffineTendency",
    "BalanceChanges",
    "CorrectedTendency",
    "Ensemble",
    "Field",
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
