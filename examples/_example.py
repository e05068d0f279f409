"""What the examples share: the command line, and how an error is measured."""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike


def command_line(main: Callable[[Path | None], dict[str, float]], about: str | None) -> None:
    """Run an example, print its figures, and draw its picture where one is asked for."""
    parser = argparse.ArgumentParser(description=(about or "").split("\n", 1)[0])
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="where to draw the picture")
    for name, value in main(parser.parse_args().plot).items():
        print(f"{name.replace('_', ' ')}: {value:.4g}")


def relative_error(found: ArrayLike, truth: ArrayLike) -> float:
    """The root mean square of the difference, over that of the truth."""
    found, truth = np.asarray(found), np.asarray(truth)
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


def noisy(values: np.ndarray, noise: ArrayLike, seed: int = 0) -> np.ndarray:
    """`(sample, time, ...)` with normal noise on all but the first time, where fields are given."""
    random = np.random.default_rng(seed)
    values, noise = np.array(values), np.broadcast_to(noise, np.shape(values))
    values[:, 1:] += noise[:, 1:] * random.standard_normal(values[:, 1:].shape)
    return values
