"""The public names: what type checkers see, and where each is imported from on first use."""

from . import (
    boundaries as boundaries,
    latents as latents,
    memory as memory,
    observations as observations,
    optimisers as optimisers,
    preconditioners as preconditioners,
    solvers as solvers,
    steppers as steppers,
)
from ._errors import (
    InputError as InputError,
    NumericsError as NumericsError,
)
from .cases import (
    CASES as CASES,
)
from .coefficients import (
    Series as Series,
)
from .data import (
    grid_of as grid_of,
    open_dataset as open_dataset,
    save_dataset as save_dataset,
    to_dataset as to_dataset,
)
from .forecast import (
    continue_forecast as continue_forecast,
    evaluate as evaluate,
    forecast_to as forecast_to,
    predict as predict,
    predict_ensemble as predict_ensemble,
)
from .grid import (
    Axis as Axis,
    Grid as Grid,
)
from .implicit import (
    check_gradient as check_gradient,
)
from .integrate import (
    BackwardEuler as BackwardEuler,
    CrankNicolson as CrankNicolson,
)
from .latent import (
    NeuralClosure as NeuralClosure,
    Parameter as Parameter,
    SineField as SineField,
)
from .observe import (
    Cells as Cells,
    Sensors as Sensors,
)
from .rollout import (
    TimeGrid as TimeGrid,
    simulate as simulate,
    steady as steady,
)
from .systems import (
    Field as Field,
    FluxOf as FluxOf,
    Reaction as Reaction,
    Supply as Supply,
    System as System,
    advection_diffusion as advection_diffusion,
    balances as balances,
)
from .terms import (
    Advection as Advection,
    Diffusion as Diffusion,
    Dirichlet as Dirichlet,
    Flux as Flux,
    Inflow as Inflow,
    Neumann as Neumann,
    NoFlux as NoFlux,
    Outflow as Outflow,
    Robin as Robin,
    Source as Source,
)
from .train import (
    LBFGS as LBFGS,
    Adam as Adam,
    FitOptions as FitOptions,
    LevenbergMarquardt as LevenbergMarquardt,
    Stage as Stage,
    Validation as Validation,
    fit as fit,
    fit_ensemble as fit_ensemble,
    plan as plan,
)

__all__: list[str]
__version__: str
