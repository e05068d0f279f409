"""What the examples' pictures share: no window is opened, files stay small."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


@contextmanager
def picture(file: Path, columns: int, height: float = 2.9) -> Iterator[Any]:
    """Axes side by side, saved when they have been drawn on."""
    figure = Figure(figsize=(9.6, height), layout="constrained")
    FigureCanvasAgg(figure)
    yield figure.subplots(1, columns)
    figure.savefig(file, dpi=100)


def image(axes: Any, values: Any, extent: tuple[float, ...], title: str, **options: Any) -> None:
    """Values over two axes, the first from left to right, with a scale of colours."""
    drawn = axes.imshow(values.T, origin="lower", extent=extent, aspect="auto", **options)
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=7)
    axes.figure.colorbar(drawn, ax=axes, shrink=0.9).ax.tick_params(labelsize=7)


def label(axes: Any, title: str, across: str, up: str) -> None:
    """A title, names of the axes, and a legend of what has a label."""
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(across, fontsize=8)
    axes.set_ylabel(up, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=7, frameon=False)
