"""How errors grow with the noise of the data, and with fewer snapshots.

Each row is a fresh process of the command line that trains a built-in case as it is, on other data:
noise on what was measured of the training samples, after their start, or fewer times at which it
was. What is scored, the forecast of samples never trained on and the unknown, is free of noise.

Noise is Gaussian and independent in each cell; its standard deviation is a share of the range of
the fields, which is 1, or of the porosity. Of vapour infiltration the thermocouples have 2 K, as
ever, and none without noise.

Finished runs are kept in `--out`; `--case NAME` selects, `--quick` trains next to nothing. Errors
are relative L1 errors in percent, means over samples; of the unknown relative L2 errors.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from impindiff import CASES, InputError, save_dataset
from impindiff.benchmark import announce, case_files, errors_of, train_once

DAY = 86400.0
SHARES = (0.0, 0.01, 0.05)
FEWER: dict[str, list[list[float]]] = {
    "advection-diffusion-dynamic": [[0.05, 0.15, 0.25, 0.35], [0.2, 0.35]],
    "burgers-steady": [[0.05, 0.2, 0.35], [0.35]],
    "vapour-infiltration": [[2 * DAY, 4 * DAY], [4 * DAY]],
}
QUICK = 'training.stages=[{optimiser="lbfgs",epochs=3}]'


def rows(
    case: str | None = None, out: Path | None = None, quick: bool = False
) -> Iterator[dict[str, Any]]:
    """Rows for each case: noise, then fewer snapshots of exact data."""
    if case is not None and case not in FEWER:
        raise InputError(f"there is no case {case!r} here; allowed: {', '.join(FEWER)}.")
    folder = out or Path("benchmark-noise-quick" if quick else "benchmark-noise")
    for name in [case] if case else FEWER:
        config = case_files(name, folder / name / "case")
        for share in SHARES:
            data = noisy_data(name, share, folder / name / f"data-{share:g}.nc")
            row = {"case": name, "noise_percent": 100 * share}
            yield row | scored(config, data, folder / name / f"noise-{share:g}", [], quick)
        for times in FEWER[name]:
            data = noisy_data(name, 0.0, folder / name / "data-0.nc")
            run = folder / name / f"snapshots-{len(times)}"
            row = {"case": name, "noise_percent": 0.0, "snapshots": len(times)}
            yield row | scored(config, data, run, [f"data.train_times={times}"], quick)


def scored(config: Path, data: Path, run: Path, changes: list[str], quick: bool) -> dict[str, Any]:
    """Train and score."""
    if failure := train_once(config, data, run, [*changes, QUICK] if quick else changes):
        return {"failed": failure}
    return errors_of(run)


def noisy_data(case: str, share: float, file: Path) -> Path:
    """The data of a case, measured with so much noise; made unless they are there."""
    if file.exists():
        return file
    announce(f"{case}: its data with {100 * share:g} % noise")
    if case == "vapour-infiltration":
        spread = 2.0 if share else 0.0
        save_dataset(CASES[case].generate(noise=share, temperature_noise=spread), file)
        return file
    data = CASES[case].generate()
    if share:
        rng = np.random.default_rng(1)
        for name, values in data.data_vars.items():
            if "sample" in values.dims:
                data[name] = with_noise(values, share, rng)
    save_dataset(data, file)
    return file


def with_noise(values: xr.DataArray, share: float, rng: np.random.Generator) -> xr.DataArray:
    """On the first five samples, which are trained on, after the first time."""
    found = values.values.copy()
    found[:5, 1:] += share * rng.standard_normal(found[:5, 1:].shape)
    return values.copy(data=found)
