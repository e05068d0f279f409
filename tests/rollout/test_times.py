"""A span of time is cut into equal steps that end where a state is wanted."""

import jax
import numpy as np
import pytest
import runtime_types

from impindiff._errors import InputError
from impindiff.rollout import TimeGrid, tidy_time

CASES = [
    (0.0, [0.05], 0.01),
    (0.0, [0.05, 0.1, 0.2], 0.01),
    (0.0, [0.0, 0.2], 0.07),
    (0.0, [0.05, 0.102, 0.15, 0.201, 0.25, 0.298, 0.35], 0.01),
    (-1.5, [-1.5, -0.3, 4.0], 1e-2),
    (1e6, [1e6 + 0.1, 1e6 + 0.3], 0.03),
    (0.1, [0.1 + 1e-9, 0.5], 0.2),
    (0.0, [1e-12], 1.0),
    (0.0, np.linspace(0, 1, 101), 1e-3),
    (0.0, [86400.0, 518400.0], 1800),
]


@pytest.mark.parametrize("start, times, dt", CASES)
class TestEveryTimeGrid:
    def test_steps_follow_one_another_from_the_start_to_the_last_time(self, start, times, dt):
        grid = TimeGrid.build(start, times, dt)
        assert len(grid.starts) == len(grid.lengths) == len(grid.slots) == grid.num_steps
        assert grid.starts[0] == start
        ends = grid.starts + grid.lengths
        scale = np.spacing(max(abs(start), abs(times[-1])))
        np.testing.assert_allclose(ends[:-1], grid.starts[1:], rtol=0, atol=4 * scale)
        assert ends[-1] == pytest.approx(times[-1], rel=1e-15, abs=4 * scale)

    def test_steps_end_at_every_time_to_be_saved(self, start, times, dt):
        grid = TimeGrid.build(start, times, dt)
        np.testing.assert_array_equal(grid.saved, times)
        kept = grid.slots < len(grid.saved)
        ends = (grid.starts + grid.lengths)[kept]
        scale = np.spacing(max(abs(start), abs(times[-1])))
        np.testing.assert_allclose(ends, grid.saved[grid.slots[kept]], rtol=0, atol=4 * scale)
        # The step after a saved time starts exactly there: round-off does not pile up.
        np.testing.assert_array_equal(grid.starts[1:][kept[:-1]], grid.saved[grid.slots[kept]][:-1])
        saved_by_steps = grid.slots[kept].tolist()
        assert saved_by_steps == list(range(int(grid.saves_start), len(grid.saved)))

    def test_no_step_is_longer_than_asked_and_none_shorter_than_it_must(self, start, times, dt):
        grid = TimeGrid.build(start, times, dt)
        assert grid.lengths.min() > 0 and grid.lengths.max() <= dt * (1 + 1e-6)
        for span in np.diff([start, *times]):
            steps = np.isclose(grid.lengths * np.ceil(span / dt - 1e-6), span, rtol=1e-9)
            assert span == 0 or steps.any()

    def test_steps_between_two_saved_times_are_equal(self, start, times, dt):
        grid = TimeGrid.build(start, times, dt)
        pieces = np.split(grid.lengths, 1 + np.flatnonzero(grid.slots < len(grid.saved)))
        assert all(len(np.unique(piece)) <= 1 for piece in pieces)


@pytest.mark.parametrize(
    "span, dt, num_steps",
    [
        (0.05, 0.01, 5),  # 0.05 / 0.01 is 5.000000000000001
        (0.3, 0.1, 3),  # and 0.3 / 0.1 is 2.9999999999999996
        (float(np.float32(0.05)), 0.01, 5),  # as read from a file
        (float(np.float32(0.35)), 0.01, 35),
        (1.0, 0.001, 1000),
        (0.051, 0.01, 6),
        (0.05, 0.011, 5),
        (0.05, 1.0, 1),
        (0.05, 0.05, 1),
    ],
)
def test_a_whole_number_of_steps_is_not_one_more_for_round_off(span, dt, num_steps: int):
    assert TimeGrid.build(0.0, [span], dt).num_steps == num_steps


def test_a_start_that_is_saved_takes_no_step():
    grid = TimeGrid.build(0.5, [0.5, 0.7], 0.1)
    assert grid.saves_start and grid.num_steps == 2
    assert grid.slots.tolist() == [2, 1]
    only = TimeGrid.build(0.5, [0.5], 0.1)
    assert only.saves_start and only.num_steps == 0
    assert not TimeGrid.build(0.5, [0.7], 0.1).saves_start


def test_one_time_may_be_given_as_a_number():
    assert TimeGrid.build(0.0, np.float64(0.2), 0.1).saved.tolist() == [0.2]


@pytest.mark.parametrize(
    "start, times, dt, said",
    [
        (0.0, [1.0], 0.0, "time step is 0.0: it must be a number, positive"),
        (0.0, [1.0], -0.1, "time step is -0.1"),
        (0.0, [1.0], np.nan, "time step is nan"),
        (0.0, [1.0], np.inf, "time step is inf"),
        (0.0, [], 0.1, "at least one"),
        (0.0, [0.5, np.nan], 0.1, "finite"),
        (0.0, [np.inf], 0.1, "finite"),
        (0.0, [0.2, 0.1], 0.1, "must increase without repeating, found 0.1 after 0.2"),
        (0.0, [0.1, 0.1], 0.1, "without repeating"),
        (0.3, [0.2, 0.4], 0.1, "0.2, lies before the initial time 0.3"),
        (np.nan, [0.2], 0.1, "initial time is nan"),
        (-np.inf, [0.2], 0.1, "initial time is -inf"),
        (0.0, [1.0], 1e-9, "more than 10,000,000 steps"),
        (0.0, [1.0], 1e-320, "more than 10,000,000 steps"),
    ],
)
def test_times_that_make_no_sense_are_refused(start, times, dt, said: str):
    with pytest.raises(InputError, match=said):
        TimeGrid.build(start, np.asarray(times, float), dt)


@pytest.mark.parametrize("time", [0.05, 0.102, 0.0, -3.7, 12345.67, 1e-9])
def test_a_time_comes_back_from_single_precision(time: float):
    assert tidy_time(float(np.float32(time))) == time


@pytest.mark.parametrize("transform", [jax.jit, jax.grad])
def test_a_traced_step_is_refused(transform):
    def last(dt):
        return TimeGrid.build(0.0, [1.0], dt).lengths[-1]

    with (
        runtime_types.without(),
        pytest.raises(InputError, match="the time step is traced by jit, vmap or grad"),
    ):
        transform(last)(0.1)
