"""Run folders of every kind, small and made up."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

MakeRun = Callable[..., Path]


def _waves(shape: tuple[int, ...], phase: float) -> np.ndarray:
    """A smooth periodic function of all axes."""
    axes = np.meshgrid(
        *(np.linspace(0, 2 * np.pi, n, endpoint=False) for n in shape), indexing="ij"
    )
    waves = [np.sin((k + 1) * axis + phase) for k, axis in enumerate(axes)]
    return np.sum(waves, axis=0).astype(np.float32)


def _forecast(
    cells: tuple[int, ...], num_samples: int, num_times: int, *, truth: bool, latents: bool
) -> xr.Dataset:
    names = "xyz"[: len(cells)]
    coords: dict[str, Any] = {
        "sample": np.arange(5, 5 + num_samples),
        "time": ("time", np.linspace(0, 0.2, num_times), {"units": "s", "long_name": "time"}),
    }
    for name, n in zip(names, cells, strict=True):
        coords[name] = (name, (np.arange(n) + 0.5) * 2 / n - 1, {"units": "m", "long_name": name})
    grid = [[_waves(cells, s + t / 3) for t in range(num_times)] for s in range(num_samples)]
    exact = np.array(grid)
    dataset = xr.Dataset(coords=coords)
    dims, attrs = ("sample", "time", *names), {"units": "mol", "long_name": "a tracer"}
    dataset["concentration"] = (dims, 1.01 * exact, attrs)
    if truth:
        dataset["concentration_truth"] = (dims, exact, attrs)
    if latents:
        velocity = _waves(cells, 0.5)
        attrs = {"units": "m/s", "long_name": "velocity along x"}
        dataset["velocity_x"] = (tuple(names), 0.98 * velocity, attrs)
        dataset["velocity_x_truth"] = (tuple(names), velocity, attrs)
    return dataset


def _summary(forecast: xr.Dataset, *, truth: bool, latents: bool) -> dict[str, Any]:
    time = forecast["time"].to_numpy()
    errors = {
        "time": time.tolist(),
        "relative_l1_percent": (0.12 * time / time[-1]).tolist(),
        "relative_l2_percent": (0.19 * time / time[-1]).tolist(),
    }
    return {
        "fields": {"concentration": errors} if truth else {},
        "latent": {"velocity_x": {"relative_l2_percent": 2.34}} if latents and truth else {},
        "samples": forecast["sample"].to_numpy().tolist(),
        "title": "A tracer in an unknown flow",
        "question": "Can the flow be learned from one snapshot?",
        "training_seconds": 38.4,
        "total_seconds": 71.0,
        "epochs": 40,
        "peak_memory_bytes": 742 * 2**20,
        "trainable_parameters": 33538,
        "training_times": [0.05],
        "training_samples": [0, 1, 2, 3, 4],
        "dt": 0.01,
        "time_scheme": "crank-nicolson",
    }


def _metrics(epochs: int = 40) -> list[dict[str, Any]]:
    return [
        {
            "epoch": epoch,
            "stage": "adam" if epoch <= 30 else "lbfgs",
            "loss": 0.1 * 0.8**epoch,
            "validation": 9.0 / epoch if epoch % 5 == 0 else None,
            "seconds": 2.0 + 0.1 * epoch,
            "solver_iterations": 3.5,
            "adjoint_iterations": 2.5,
            "learning_rate": 1e-3,
        }
        for epoch in range(1, epochs + 1)
    ]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a run folder; `summary` and `edit` change what is in it."""

    def make(
        *,
        cells: tuple[int, ...] = (16, 8),
        num_samples: int = 2,
        num_times: int = 5,
        truth: bool = True,
        latents: bool = True,
        summary: dict[str, Any] | None = None,
        edit: Callable[[xr.Dataset], xr.Dataset] = lambda dataset: dataset,
        name: str = "run",
    ) -> Path:
        run = tmp_path / name
        run.mkdir()
        known = {"truth": truth, "latents": latents}
        forecast = _forecast(cells, num_samples, num_times, **known)
        full = _summary(forecast, **known) | (summary or {})
        edit(forecast).to_netcdf(run / "forecast.nc", engine="h5netcdf")
        (run / "summary.json").write_text(json.dumps(full))
        lines = [json.dumps(row) for row in _metrics()]
        (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        provenance = {
            "impindiff": "0.1.0",
            "packages": {"jax": "0.10.2"},
            "commit": None,
            "seed": 0,
        }
        (run / "provenance.json").write_text(json.dumps(provenance))
        (run / "config.toml").write_text('case = "tracer"\n\n[training]\ntimes = [0.05]\n')
        return run

    return make
