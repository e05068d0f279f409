"""Pieces of a forecast: together they are its steps, and all but the last have one shape."""

import numpy as np
import pytest

from impindiff import InputError, TimeGrid
from impindiff.forecast._pieces import cut

RNG = np.random.default_rng(0)
TIMES = {
    "even": 0.1 * np.arange(1, 40),
    "even, and an end": np.append(0.1 * np.arange(1, 40), 3.91),
    "from the start": 0.1 * np.arange(40),
    "far apart": np.array([5.0, 10.0, 10.001]),
    "dense, then far apart": np.append(0.01 * np.arange(1, 30), [2.0, 4.0]),
    "random": np.cumsum(RNG.exponential(0.1, 50)),
    "one": np.array([0.04]),
    "the start alone": np.array([0.0]),
}


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES)
@pytest.mark.parametrize("most_times, most_steps", [(1, 1000), (4, 1000), (1000, 7), (1000, 1000)])
def test_pieces_are_the_steps_of_the_whole(times: np.ndarray, most_times: int, most_steps: int):
    whole = TimeGrid.build(0.0, times, 0.03)
    pieces = list(cut(0.0, times, 0.03, most_times, most_steps))
    grids = [piece.time_grid for piece in pieces]
    for name in ("starts", "lengths", "elapsed"):
        joined = np.concatenate([np.empty(0), *(getattr(grid, name) for grid in grids)])
        np.testing.assert_allclose(joined, getattr(whole, name), rtol=1e-9, atol=1e-14)
    saved = [time for piece in pieces for time in piece.times]
    assert saved == times[int(whole.saves_start) :].tolist()
    for piece, grid in zip(pieces, grids, strict=True):
        assert len(piece.times) <= most_times and grid.num_steps <= most_steps
        ends = grid.starts + grid.lengths
        written = grid.slots < len(piece.times)
        assert grid.slots[written].tolist() == list(range(len(piece.times)))
        np.testing.assert_allclose(ends[written], piece.times, rtol=1e-12)
        assert grid.slots[-1] == piece.last
        assert np.all(np.isin(grid.slots[~written][:-1], len(grid.saved)))
    assert len({(grid.num_steps, len(grid.saved)) for grid in grids[:-1]}) <= 1
    assert len({len(grid.saved) for grid in grids}) <= 1


def test_even_times_fill_every_piece():
    pieces = list(cut(0.0, 0.1 * np.arange(1, 101), 0.02, 8, 10_000))
    assert [len(piece.times) for piece in pieces] == [8] * 12 + [4]


def test_a_billion_steps_are_cut_without_being_made():
    """Far more than fit into memory; a time grid of all would be refused."""
    first = next(iter(cut(0.0, np.arange(1.0, 1001.0), 1e-6, 100, 1000)))
    assert first.time_grid.num_steps == 1000 and not first.times.size


@pytest.mark.parametrize(
    "times, dt, message",
    [([], 0.1, "at least one"), ([0.2, 0.1], 0.1, "must increase"), ([1.0], 0.0, "time step")],
)
def test_what_cannot_be_cut_is_refused_at_once(times: list[float], dt: float, message: str):
    with pytest.raises(InputError, match=message):
        cut(0.0, np.array(times), dt, 10, 10)
