"""A small dataset in the documented layout, and the public data where it is present."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from impindiff.data import to_dataset
from impindiff.grid import Grid


@pytest.fixture
def grid() -> Grid:
    return Grid.uniform((6, 4), ((-1, 1), (0, 1)), periodic=True)


@pytest.fixture
def dataset(grid: Grid) -> xr.Dataset:
    rng = np.random.default_rng(0)
    described = {"units": "mol/m3", "long_name": "transported scalar"}
    velocity = {"units": "m/s", "long_name": "velocity along x"}
    return to_dataset(
        grid,
        np.arange(5) * 0.05,
        {"concentration": rng.random((10, 5, 6, 4), dtype=np.float32)},
        {"steady": rng.random((6, 4)), "moving": rng.random((5, 6, 4))},
        {"concentration": described, "steady": velocity, "moving": velocity},
        attrs={"title": "a test"},
    )


@pytest.fixture(
    params=[
        "advection_diffusion_steady",
        "advection_diffusion_dynamic",
        "burgers_steady",
        "burgers_dynamic",
    ]
)
def public_file(request: pytest.FixtureRequest, shared_data: Path) -> Path:
    return shared_data / f"{request.param}.nc"
