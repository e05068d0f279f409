"""The order of recomputation: it can be done as told, and no other needs fewer steps."""

from functools import cache

import pytest
from checkpoint_schedules import EndReverse, Forward, Revolve

from impindiff.rollout._snapshot_schedule import first_snapshots, least_steps, reversal


@cache
def fewest(num_steps: int, snapshots: int) -> int:
    """By dynamic programming over where the next state is kept."""
    if num_steps <= 1:
        return 0
    if snapshots == 1:
        return num_steps * (num_steps - 1) // 2
    return min(
        first + fewest(num_steps - first, snapshots - 1) + fewest(first, snapshots)
        for first in range(1, num_steps)
    )


def steps_taken(num_steps: int, snapshots: int) -> int:
    """Do as told, and count the steps forward; the last one of the first sweep is not one."""
    kept = first_snapshots(num_steps, snapshots)
    assert len(kept) <= snapshots
    slots = dict(enumerate(kept))
    if num_steps - 1 not in kept:
        slots[snapshots] = num_steps - 1
    count, reversed_steps = num_steps - 1, []
    for action in reversal(num_steps, snapshots):
        assert slots[action.source] == action.first
        if action.is_reversal:
            reversed_steps.append(action.first)
        else:
            assert action.first < action.last and 0 < action.target <= snapshots
            slots[action.target] = action.last
            count += action.last - action.first
    assert reversed_steps == list(range(num_steps - 1, -1, -1))
    return count


@pytest.mark.parametrize("snapshots", [1, 2, 3, 4, 5, 8, 11])
def test_no_order_takes_fewer_steps(snapshots):
    for num_steps in range(snapshots, 60):
        least = fewest(num_steps, snapshots)
        assert least_steps(num_steps, snapshots) == least
        assert steps_taken(num_steps, snapshots) == least, num_steps


@pytest.mark.parametrize(
    "num_steps, published",
    [
        (1000, {5: 7.28, 10: 4.64, 20: 3.75, 40: 3.10, 80: 2.92}),
        (10_000, {5: 12.29, 10: 6.76, 20: 4.80, 40: 3.91, 80: 3.66}),
    ],
)
def test_published_counts(num_steps, published):
    """Steps forward for each step, the one that is differentiated included."""
    for snapshots, expected in published.items():
        found = 1 + steps_taken(num_steps, snapshots) / num_steps
        assert found == pytest.approx(expected, abs=0.0051)


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize(
    "num_steps, snapshots",
    [(7, 1), (10, 3), (101, 5), (1000, 10), pytest.param(1000, 80, marks=pytest.mark.slow)],
)
def test_as_many_steps_as_another_implementation_takes(num_steps, snapshots):
    """That of checkpoint-schedules counts the step that is differentiated, too."""
    schedule, taken = Revolve(num_steps, snapshots), 0
    for action in schedule:
        if isinstance(action, EndReverse):
            break
        if isinstance(action, Forward):
            taken += min(action.n1, num_steps) - action.n0
            if action.n1 >= num_steps:
                schedule.finalize(num_steps)
    assert num_steps + steps_taken(num_steps, snapshots) == taken
