"""Learn the unknown part of a spatiotemporal process, and forecast the whole of it.

Neural networks inside a finite-volume PDE solver, time advanced by implicit layers, trained end to
end with exact adjoint gradients. What most scripts need is named here. The rest stands in
namespaces (`boundaries`, `latents`, `memory`, `observations`, `optimisers`, `preconditioners`,
`solvers`, `steppers`) and in the packages, one for each idea.

`__init__.pyi` lists the names. They are imported on first use: `impindiff --help` and a config
error need no JAX.
"""

import importlib
import warnings
from typing import Any

import lazy_loader

__version__ = "0.2.0"

_attribute, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# Names that version 0.1.0 had here, by where they stand today.
_EARLIER = {
    "boundaries": "AbstractBoundary",
    "latents": (
        "CellField Closure ConvolutionalClosure Corrected FaceVelocity FilmField "
        "HypernetworkField SeparableField SpectralField StreamFunction tabulate"
    ),
    "memory": "KeepAll MemoryBudget Snapshots",
    "observations": (
        "DivergenceFree LineAverage Measured Smoothness TotalVariation VolumeAverage WeightDecay "
        "measure"
    ),
    "optimisers": (
        "Batching Checkpoints EarlyStopping Optax ProgressiveTolerance Rescue by_latent"
    ),
    "preconditioners": (
        "AbstractPreconditioner BlockJacobi BlockLine ByGroup Fourier Jacobi Line Multigrid "
        "TransformLine"
    ),
    "report": "write_report",
    "runs": "RunFolder train_run",
    "solvers": (
        "AdjointOutcome Affine Anderson Automatic BiCGStab CG DenseLU GMRES ImplicitAdjoint "
        "Lineax Newton OneStepAdjoint Outcome Picard Staggered Tridiagonal UnrolledAdjoint "
        "gauss_newton_operator gauss_newton_product root select_solver"
    ),
    "steppers": (
        "ForwardEuler RungeKutta4 SDIRK2 Theta Trajectory consistent simulate_with_rescue stable_dt"
    ),
    "systems": "Ensemble",
}
_MOVED = {name: package for package, names in _EARLIER.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, and one of version 0.1.0 with a warning."""
    if name not in _MOVED:
        return _attribute(name)
    home = f"{__name__}.{_MOVED[name]}"
    warnings.warn(f"impindiff.{name} is {home}.{name} now.", DeprecationWarning, stacklevel=2)
    return getattr(importlib.import_module(home), name)
