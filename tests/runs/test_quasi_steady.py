"""A run whose fields are always in balance with what drives them."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from impindiff.config import parse_config
from impindiff.data import to_dataset
from impindiff.runs import RunFolder, forecast_run_to, train_run

OWN = """
import impindiff as ipd

def make():
    k = ipd.Parameter("k", 0.5, (0.0, 10.0))
    heat, loss = ipd.Source(lambda t: 1 + t), ipd.Reaction(lambda u, k: -k * u)
    return ipd.System(None, {"u": [heat, loss]}, coefficients={"k": k})
"""


@pytest.mark.thorough
def test_a_config_names_the_scheme(tmp_path: Path):
    """1 + t = k u at all times, with k = 2: in place of a decay towards it at the rate k."""
    times = np.linspace(0.0, 1.0, 5)
    (tmp_path / "own.py").write_text(OWN)
    measured = np.stack([(1 + times) / 2] * 2)
    to_dataset(None, times, {"u": measured}).to_netcdf(tmp_path / "data.nc")
    tables = {
        "data": {
            "field": "u",
            "train_samples": "0",
            "train_times": times[1:].tolist(),
            "test_samples": "1",
        },
        "system": {"build": "own:make"},
        "time": {"scheme": "quasi-steady", "dt": 0.25, "until": 1.0},
        "training": {"stages": [{"optimiser": "levenberg-marquardt", "epochs": 20}]},
    }
    config, run = parse_config(tables, "it", tmp_path), RunFolder(tmp_path / "run")
    train_run(config, tmp_path / "data.nc", run)
    assert (
        json.loads((tmp_path / "run" / "summary.json").read_text())["time_scheme"] == "quasi-steady"
    )
    forecast_run_to(run, tmp_path / "data.nc", tmp_path / "forecast.nc", 3.0, 1.0)
    with xr.open_dataset(tmp_path / "forecast.nc") as found:
        np.testing.assert_allclose(found["k"], 2.0, rtol=1e-5)
        np.testing.assert_allclose(found["u"][0, 1:], [1.0, 1.5, 2.0], rtol=1e-5)
