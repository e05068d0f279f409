"""Draw the README's picture from a run folder: python docs/draw_picture.py RUN [OUT.png]."""

import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import impindiff as ipd


def main(run: Path, out: Path) -> None:
    """Truth, forecast and error of one sample; true and learned velocity."""
    forecast = ipd.open_dataset(run / "forecast.nc").isel(sample=0, time=-1)
    x, y = forecast["x"].values, forecast["y"].values
    extent = (x[0], x[-1], y[0], y[-1])
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    time = float(forecast["time"])
    rows = {
        "concentration": f"concentration at t = {time:g}",
        "advection_x": "velocity along x",
    }
    for row, (name, title) in zip(axes, rows.items(), strict=True):
        truth, found = forecast[f"{name}_truth"].values, forecast[name].values
        low, high = truth.min(), truth.max()
        error = found - truth
        worst = float(np.abs(error).max())
        learned = "learned" if name.startswith("advection") else "forecast"
        pictures = [
            (f"{title}, truth", truth, low, high, "viridis"),
            (learned, found, low, high, "viridis"),
            ("difference", error, -worst, worst, "RdBu_r"),
        ]
        for axis, (text, values, bottom, top, colours) in zip(row, pictures, strict=True):
            image = axis.imshow(
                values.T,
                origin="lower",
                extent=extent,
                vmin=bottom,
                vmax=top,
                cmap=colours,
                aspect="auto",
            )
            axis.set_title(text, fontsize=9)
            axis.set_xticks([])
            axis.set_yticks([])
            bar = figure.colorbar(image, ax=axis, shrink=0.9, pad=0.02)
            bar.ax.tick_params(labelsize=7)
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("docs/images/forecast.png")
    main(Path(sys.argv[1]), target)
