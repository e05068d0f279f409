"""Measured data with published answers, fitted with default options: the first run is right.

The data lie beside the repository and are not part of it; without them these tests skip. Models are
those of the publications; only grid and steps are chosen here, fine enough not to matter.
"""

import warnings
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import impindiff as ipd

POSITIVE = (0.0, jnp.inf)


@pytest.fixture(scope="module")
def real(shared_data: Path) -> Path:
    folder = shared_data / "real"
    if not folder.is_dir():
        pytest.skip(f"the measured data are not on this machine ({folder})")
    return folder


def parameters(starts: dict[str, float]) -> dict[str, Any]:
    return {name: ipd.Parameter(name, start, POSITIVE) for name, start in starts.items()}


def fitted(system: ipd.System, data: xr.Dataset, **options: Any) -> dict[str, float]:
    """What default stages find, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained = ipd.fit(system, data, samples=":", **options)
    found = {name: float(jnp.mean(value)) for name, value in trained.latents().items()}
    return found


# --- A pumped aquifer (Oude Korendijk; Kruseman & de Ridder 1970) ---
THICKNESS, PUMPED = 7.0, 788.0  # m, m3/d
WELL, FAR = 0.1, 1e4  # m
WELLS = ipd.Sensors("head", "read", positions=[[30.0], [90.0]])


class PumpedWell(ipd.boundaries.AbstractBoundary):
    """So much water leaves through the wall of the well, in all."""

    def flux(self, face):
        """Outward is positive; per unit of area."""
        return PUMPED / (2 * np.pi * WELL * THICKNESS), 0.0


def aquifer(k: float, storage: float) -> ipd.System:
    """Radial flow to a well in a confined aquifer, started 2.2 times too low and 4 too high."""
    grid = ipd.Grid([ipd.Axis.from_faces("r", np.geomspace(WELL, FAR, 121))], "cylindrical")
    return ipd.System(
        grid,
        {
            "head": ipd.Field(
                [ipd.Diffusion(lambda k: k)],
                {"r": (PumpedWell(), ipd.Dirichlet(0.0))},
                storage=lambda Ss: Ss,
            )
        },
        coefficients=parameters({"k": k, "Ss": storage}),
    )


def pumping(folder: Path, system: ipd.System) -> xr.Dataset:
    table = pd.read_csv(folder / "pumping_oude_korendijk.csv")
    days = np.round(table["time_min"].to_numpy() / 1440, 9)
    times = np.unique([0.0, *days])
    read = np.full((1, times.size, 2), np.nan)
    wells = (table["distance_m"] == 90).to_numpy().astype(int)
    read[0, np.searchsorted(times, days), wells] = table["head_m"]
    grid = system.grid
    assert grid is not None
    head = np.full((1, times.size, *grid.shape), np.nan)
    head[:, 0] = 0.0
    data = ipd.to_dataset(grid, times, {"head": head})
    return data.assign(read=(("sample", "time", "well"), read, {"units": "1", "long_name": "read"}))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_pumped_aquifer(real: Path, dtype):
    system = aquifer(30.0, 1e-4)
    data = pumping(real, system)
    found = fitted(system, data, dt=1e-3, observe=[WELLS], options=ipd.FitOptions(dtype=dtype))
    assert found["k"] == pytest.approx(66.09, abs=1.65)
    assert found["Ss"] == pytest.approx(2.541e-5, abs=2e-6)


# --- Cells closing a scratch (Jin et al. 2016): Fisher and KPP's equation ---
CAPACITY = 1.7  # 1,000 cells / mm2


@pytest.mark.slow
def test_a_scratch_that_closes(real: Path):
    table = pd.read_csv(real / "scratch_assay.csv")
    chosen = table[table["cells_at_start"] == 20_000]
    density = chosen.pivot(index="time_d", columns="x_mm", values="density_per_mm2") / 1e3
    grid = ipd.Grid([ipd.Axis.from_centres("x", density.columns.to_numpy())])
    system = ipd.System(
        grid,
        {
            "u": ipd.Field(
                [ipd.Diffusion(lambda D: D), ipd.Reaction(lambda u, r: r * u * (1 - u / CAPACITY))],
                {"x": ipd.NoFlux()},
            )
        },
        coefficients=parameters({"D": 0.005, "r": 0.5}),
    )
    data = ipd.to_dataset(grid, density.index.to_numpy(), {"u": density.to_numpy()[None]})
    found = fitted(system, data, dt=0.05)
    assert found["D"] == pytest.approx(0.02551, abs=0.00180)
    assert found["r"] == pytest.approx(1.5306, abs=0.0454)
    # By scipy (LSODA, least_squares) with the same cells.
    assert found["D"] == pytest.approx(0.025237, rel=1e-3)
    assert found["r"] == pytest.approx(1.53883, rel=1e-3)


# --- A tracer through a column of sand (CXTFIT, problem 7-3a) ---
@pytest.mark.slow
@pytest.mark.parametrize(
    "depth, v, D", [(11, 2.4515, 0.154), (17, 2.5134, 0.1264), (23, 2.5064, 0.1102)]
)
def test_a_breakthrough(real: Path, depth: int, v: float, D: float):
    table = pd.read_csv(real / "column_breakthrough.csv")
    chosen = table[table["depth_cm"] == depth]
    # Central, not upwind, whose own diffusion v dx / 2 is as large as what is sought; the cell
    # Peclet number v dx / D stays below 2.
    grid = ipd.Grid([ipd.Axis.from_faces("x", np.linspace(0.0, 30.0, 401))])
    system = ipd.System(
        grid,
        {
            "c": ipd.Field(
                [ipd.Advection((lambda v: v,), "central"), ipd.Diffusion(lambda D: D)],
                {"x": (ipd.Dirichlet(1.0), ipd.Outflow())},
            )
        },
        coefficients=parameters({"v": 2.0, "D": 0.5}),
    )
    times = np.array([0.0, *chosen["time_h"]])
    clean = np.full((1, times.size, *grid.shape), np.nan)
    clean[:, 0] = 0.0
    read = np.array([np.nan, *chosen["relative_concentration"]])[None, :, None]
    data = ipd.to_dataset(grid, times, {"c": clean})
    data = data.assign(read=(("sample", "time", "port"), read, {"units": "1", "long_name": "read"}))
    port = ipd.Sensors("c", "read", positions=[[float(depth)]])
    found = fitted(system, data, dt=0.025, observe=[port])
    assert found["v"] == pytest.approx(v, rel=0.01)
    assert found["D"] == pytest.approx(D, rel=0.01)


# --- Lynx and hare (Hudson's Bay Company; Stan's case study) ---
@pytest.mark.slow
def test_lynx_and_hare(real: Path):
    table = pd.read_csv(real / "lynx_hare.csv")
    years = table["year"].to_numpy(float) - 1900
    learned = parameters({"a": 1.0, "b": 0.05, "c": 1.0, "d": 0.05, "hare0": 30.0, "lynx0": 5.0})
    system = ipd.System(
        None,
        {
            "hare": ipd.Field(
                [ipd.Reaction(lambda hare, lynx, a, b: (a - b * lynx) * hare)],
                initial=learned["hare0"],
            ),
            "lynx": ipd.Field(
                [ipd.Reaction(lambda hare, lynx, c, d: (d * hare - c) * lynx)],
                initial=learned["lynx0"],
            ),
        },
        coefficients={name: learned[name] for name in "abcd"},
    )
    logs = {name: np.log(table[f"{name}_thousands"].to_numpy())[None] for name in ("hare", "lynx")}
    data = ipd.to_dataset(None, years, {f"log_{name}": values for name, values in logs.items()})
    observe = [
        ipd.observations.Measured(lambda hare: jnp.log(hare), "log_hare", noise=0.25),
        ipd.observations.Measured(lambda lynx: jnp.log(lynx), "log_lynx", noise=0.25),
    ]
    found = fitted(system, data, times=years, dt=0.05, observe=observe)
    expected = {"a": 0.540, "b": 0.0272, "c": 0.796, "d": 0.0237}
    published = {"a": (0.55, 0.065), "b": (0.028, 0.004), "c": (0.80, 0.09), "d": (0.024, 0.004)}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=0.01)
        mean, deviation = published[name]
        assert found[name] == pytest.approx(mean, abs=deviation)


# --- Heat in soil, between two measured depths ---
DEPTHS = (20.0, 30.0, 40.0, 50.0, 60.0, 80.0)


@pytest.mark.slow
def test_heat_in_soil(real: Path):
    # The last ten days are held back.
    table = pd.read_csv(real / "soil_temperature.csv").iloc[: 30 * 24 + 1]
    hours = np.arange(len(table), dtype=float)
    at = {d: table[f"depth_{d:g}_cm_degC"].to_numpy() for d in (10.0, *DEPTHS, 100.0)}
    grid = ipd.Grid([ipd.Axis.from_faces("z", np.linspace(10.0, 100.0, 46))])
    system = ipd.System(
        grid,
        {
            "T": ipd.Field(
                [ipd.Diffusion(lambda D: D)],
                {
                    "z": (
                        ipd.Dirichlet(lambda t: jnp.interp(t, hours, at[10.0])),
                        ipd.Dirichlet(lambda t: jnp.interp(t, hours, at[100.0])),
                    )
                },
            )
        },
        coefficients=parameters({"D": 3.0}),
    )
    first = np.interp(grid.axes[0].centres, list(at), [values[0] for values in at.values()])
    start = np.full((1, hours.size, *grid.shape), np.nan)
    start[0, 0] = first
    read = np.stack([at[d] for d in DEPTHS], axis=-1)[None]
    data = ipd.to_dataset(grid, hours, {"T": start})
    data = data.assign(read=(("sample", "time", "probe"), read, {"units": "1", "long_name": "r"}))
    probes = ipd.Sensors("T", "read", positions=[[d] for d in DEPTHS])
    found = fitted(system, data, times=hours[1:], dt=1.0, observe=[probes])
    assert found["D"] == pytest.approx(7.787, rel=0.01)
