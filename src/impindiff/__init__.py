"""Learn the unknown part of a spatiotemporal process, and forecast the whole of it.

Neural networks inside a finite-volume PDE solver, time advanced by implicit layers, trained end to
end with exact adjoint gradients. What is most used is named here; the rest lies in the packages,
one for each idea.

Names are imported on first use: `impindiff --help` and a config error need no JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from impindiff._errors import InputError, NumericsError
    from impindiff.cases import CASES
    from impindiff.coefficients import Closure, Corrected
    from impindiff.data import grid_of, open_dataset, save_dataset, to_dataset
    from impindiff.forecast import (
        continue_forecast,
        evaluate,
        forecast_to,
        predict,
        predict_ensemble,
    )
    from impindiff.grid import Axis, Grid
    from impindiff.implicit import (
        Affine,
        Anderson,
        ImplicitAdjoint,
        Newton,
        OneStepAdjoint,
        Picard,
        Staggered,
        UnrolledAdjoint,
        check_gradient,
        gauss_newton_operator,
        gauss_newton_product,
        root,
    )
    from impindiff.integrate import (
        SDIRK2,
        BackwardEuler,
        CrankNicolson,
        ForwardEuler,
        RungeKutta4,
        Theta,
    )
    from impindiff.latent import (
        CellField,
        ConvolutionalClosure,
        FilmField,
        HypernetworkField,
        NeuralClosure,
        Parameter,
        SeparableField,
        SineField,
        SpectralField,
        tabulate,
    )
    from impindiff.linear import (
        CG,
        GMRES,
        AdjointOutcome,
        Automatic,
        BiCGStab,
        DenseLU,
        Lineax,
        Outcome,
        Tridiagonal,
    )
    from impindiff.observe import (
        Cells,
        DivergenceFree,
        LineAverage,
        Measured,
        Sensors,
        Smoothness,
        TotalVariation,
        VolumeAverage,
        WeightDecay,
        measure,
    )
    from impindiff.precondition import (
        AbstractPreconditioner,
        BlockJacobi,
        BlockLine,
        ByGroup,
        Fourier,
        Jacobi,
        Line,
        Multigrid,
        TransformLine,
    )
    from impindiff.report import write_report
    from impindiff.rollout import (
        KeepAll,
        MemoryBudget,
        Snapshots,
        TimeGrid,
        Trajectory,
        consistent,
        select_solver,
        simulate,
        simulate_with_rescue,
        stable_dt,
    )
    from impindiff.runs import RunFolder, train_run
    from impindiff.systems import (
        Ensemble,
        Field,
        FluxOf,
        Reaction,
        Supply,
        System,
        advection_diffusion,
        balances,
    )
    from impindiff.terms import (
        AbstractBoundary,
        Advection,
        Diffusion,
        Dirichlet,
        FaceVelocity,
        Flux,
        Inflow,
        Neumann,
        NoFlux,
        Outflow,
        Robin,
        Source,
        StreamFunction,
    )
    from impindiff.train import (
        LBFGS,
        Adam,
        Batching,
        Checkpoints,
        EarlyStopping,
        FitOptions,
        LevenbergMarquardt,
        Optax,
        ProgressiveTolerance,
        Rescue,
        Stage,
        Validation,
        by_latent,
        fit,
        fit_ensemble,
        plan,
    )

__version__ = "0.2.0"

__all__ = [
    "AbstractBoundary",
    "AbstractPreconditioner",
    "Adam",
    "AdjointOutcome",
    "Advection",
    "Affine",
    "Anderson",
    "Automatic",
    "Axis",
    "BackwardEuler",
    "Batching",
    "BiCGStab",
    "BlockJacobi",
    "BlockLine",
    "ByGroup",
    "CASES",
    "CG",
    "CellField",
    "Cells",
    "Checkpoints",
    "Closure",
    "ConvolutionalClosure",
    "Corrected",
    "CrankNicolson",
    "DenseLU",
    "Diffusion",
    "Dirichlet",
    "DivergenceFree",
    "EarlyStopping",
    "Ensemble",
    "FaceVelocity",
    "Field",
    "FilmField",
    "FitOptions",
    "Flux",
    "FluxOf",
    "ForwardEuler",
    "Fourier",
    "GMRES",
    "Grid",
    "HypernetworkField",
    "ImplicitAdjoint",
    "Inflow",
    "InputError",
    "Jacobi",
    "KeepAll",
    "LBFGS",
    "LevenbergMarquardt",
    "Line",
    "LineAverage",
    "Lineax",
    "Measured",
    "MemoryBudget",
    "Multigrid",
    "Neumann",
    "NeuralClosure",
    "Newton",
    "NoFlux",
    "NumericsError",
    "OneStepAdjoint",
    "Optax",
    "Outcome",
    "Outflow",
    "Parameter",
    "Picard",
    "ProgressiveTolerance",
    "Reaction",
    "Rescue",
    "Robin",
    "RunFolder",
    "RungeKutta4",
    "SDIRK2",
    "Sensors",
    "SeparableField",
    "SineField",
    "Smoothness",
    "Snapshots",
    "Source",
    "SpectralField",
    "Stage",
    "Staggered",
    "StreamFunction",
    "Supply",
    "System",
    "Theta",
    "TimeGrid",
    "TotalVariation",
    "Trajectory",
    "TransformLine",
    "Tridiagonal",
    "UnrolledAdjoint",
    "Validation",
    "VolumeAverage",
    "WeightDecay",
    "advection_diffusion",
    "balances",
    "by_latent",
    "check_gradient",
    "consistent",
    "continue_forecast",
    "evaluate",
    "fit",
    "fit_ensemble",
    "forecast_to",
    "gauss_newton_operator",
    "gauss_newton_product",
    "grid_of",
    "measure",
    "open_dataset",
    "plan",
    "predict",
    "predict_ensemble",
    "root",
    "select_solver",
    "save_dataset",
    "simulate",
    "simulate_with_rescue",
    "stable_dt",
    "tabulate",
    "to_dataset",
    "train_run",
    "write_report",
]

# In the order of the floors, so that a name is found with as few imports as can be.
# fmt: off
_PACKAGES = (
    "_errors", "grid", "linear", "precondition", "implicit", "coefficients", "terms", "latent",
    "data", "observe", "integrate", "rollout", "systems", "forecast", "train", "cases", "report",
    "runs",
)
# fmt: on


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name in __all__:
        for package in _PACKAGES:
            module = importlib.import_module(f"impindiff.{package}")
            if hasattr(module, name):
                globals()[name] = getattr(module, name)
                return globals()[name]
    raise AttributeError(f"module 'impindiff' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, for completion."""
    return sorted([*globals(), *__all__])
