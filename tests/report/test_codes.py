"""Numbers become codes and places without losing more than the eye can see."""

import numpy as np
import pytest

from impindiff.report._codes import (
    Scale,
    curve_codes,
    error_scale,
    pixel_axis,
    ticks,
    value_scale,
)
from impindiff.report._format import data_size, duration, listing, percent, plain


def _decode(codes: bytes, scale: Scale) -> np.ndarray:
    whole = np.frombuffer(codes, "<u1" if scale.missing < 256 else "<u2").astype(float)
    values = scale.low + (scale.high - scale.low) * whole / (scale.missing - 1)
    return np.where(whole == scale.missing, np.nan, values)


@pytest.mark.parametrize("missing", [255, 65535])
def test_codes_are_right_to_half_a_step(missing: int):
    values = np.linspace(-3, 5, 1000)
    scale = Scale(-3, 5, missing)
    error = np.abs(_decode(scale.encode(values), scale) - values)
    assert error.max() <= 0.5 * 8 / (missing - 1) * (1 + 1e-9)


def test_what_is_no_number_is_a_gap_and_what_is_beyond_takes_the_end():
    scale = Scale(0, 1, 255)
    values = np.array([np.nan, np.inf, -np.inf, -9.0, 9.0])
    np.testing.assert_array_equal(
        _decode(scale.encode(values), scale), [np.nan, np.nan, np.nan, 0, 1]
    )


def test_a_forecast_that_ran_away_does_not_flatten_the_truth():
    truth = np.linspace(0, 1, 50)
    near, far = (value_scale(truth, truth * factor, 255) for factor in (1.1, 1e6))
    assert (near.low, near.high) == pytest.approx((0, 1.1))
    assert (far.low, far.high) == pytest.approx((0, 1.25))


def test_a_curve_stays_off_the_edges_of_its_frame_and_leaves_it_through_one():
    truth = np.linspace(0, 1, 50)
    near, far = (value_scale(truth, truth * factor, 65535) for factor in (3, 1e6))
    assert near.low < 0 and 3 < near.high < 3.2
    assert far.low < 0 and 4 < far.high < 4.3
    coded = curve_codes(far, truth * 1e6)
    assert coded.low <= far.low and coded.high > 10 * far.high
    # Fine enough still for the heights of a picture.
    assert (coded.high - coded.low) / 65534 < 1e-3 * (far.high - far.low)
    assert _decode(coded.encode(truth), coded) == pytest.approx(truth, abs=1e-3)


def test_the_error_of_a_curve_is_shown_whole():
    error = np.append(np.linspace(-1, 0.5, 5000), 1e3)
    scale = error_scale(error, 65535)
    assert -scale.low == scale.high > 1e3


@pytest.mark.parametrize("values", [np.full(4, 2.0), np.zeros(4), np.full(4, np.nan)])
def test_a_scale_is_never_empty(values: np.ndarray):
    for scale in (value_scale(None, values, 255), error_scale(values, 255)):
        assert scale.low < scale.high


def test_the_error_scale_is_symmetric_and_ignores_one_wild_cell():
    error = np.append(np.linspace(-1, 0.5, 5000), 1e3)
    scale = error_scale(error, 255)
    assert -scale.low == scale.high < 1.01


def test_zero_error_is_the_middle_code():
    assert set(error_scale(np.array([-2.0, 2.0]), 255).encode(np.zeros(3))) == {127}


def test_a_uniform_axis_keeps_its_cells_and_reaches_from_edge_to_edge():
    axis = pixel_axis(np.linspace(-0.95, 0.95, 20), 160)
    np.testing.assert_array_equal(axis.cells, np.arange(20))
    assert (axis.low, axis.high) == pytest.approx((-1, 1))
    assert [tick.label for tick in axis.ticks(4)] == ["\u22121", "\u22120.5", "0", "0.5", "1"]


def test_a_long_axis_is_thinned_evenly():
    axis = pixel_axis(np.arange(1000.0), 160)
    assert len(axis.cells) <= 160
    assert set(np.diff(axis.cells)) <= {6, 7, 8}


def test_a_stretched_axis_is_drawn_true_to_length():
    centres = np.cumsum(np.geomspace(1, 100, 30))
    axis = pixel_axis(centres, 160)
    pixels = axis.low + (axis.high - axis.low) * (np.arange(160) + 0.5) / 160
    nearest = np.abs(centres[None] - pixels[:, None]).argmin(1)
    np.testing.assert_array_equal(axis.cells, nearest)


def test_a_falling_axis_is_turned_round():
    np.testing.assert_array_equal(pixel_axis(np.array([3.0, 2.0, 1.0]), 9).cells, [2, 1, 0])


@pytest.mark.parametrize(
    ("low", "span"),
    [(290.0, 1e-5), (-290.0, 3e-3), (1e6, 0.07), (1e6, 1e-5), (0.0, 1e-10), (1e-9, 1e-10), (5, 7)],
)
def test_ticks_tell_their_places_apart(low: float, span: float):
    marks = ticks(low, low + span)
    written = [mark.label for mark in marks]
    assert len(marks) > 1 and len(set(written)) == len(marks)
    if "10" not in "".join(written).replace(".", ""):
        values = [float(label.replace("\u2212", "-")) for label in written]
        places = [100 * (value - low) / span for value in values]
        assert places == pytest.approx([mark.place for mark in marks], abs=1)


def test_ticks_lie_inside():
    marks = ticks(-0.37, 0.41)
    assert "0" in [mark.label for mark in marks]
    assert all(0 <= mark.place <= 100 for mark in marks)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (percent(0.11684), "0.117 %"),
        (percent(0), "0 %"),
        (percent(3e-7), "< 0.001 %"),
        (percent(43210), "43,210 %"),
        (percent(1.234e30), "1.23\u00b710\u00b3\u2070 %"),
        (percent(float("inf")), "not finite"),
        (duration(0.0841), "0.0841 s"),
        (duration(312), "5 min 12 s"),
        (duration(59.97), "1 min 00 s"),
        (duration(3 * 3600 + 200), "3 h 03 min"),
        (data_size(742 * 2**20), "742 MiB"),
        (data_size(2.7 * 2**30), "2.7 GiB"),
        (plain(-0.0), "0"),
        (plain(1e-9), "10\u207b\u2079"),
        (plain(-2.5e-11), "\u22122.5\u00b710\u207b\u00b9\u00b9"),
        (plain(4e6), "4\u00b710\u2076"),
        (plain(-1e6), "\u221210\u2076"),
        (listing([1234567.0, 1234567.5], 8), "1234567, 1234567.5"),
        (plain(float(np.float32(0.05))), "0.05"),
        (listing([5, 6, 7]), "5\u20137"),
        (listing([0.05, 0.1]), "0.05, 0.1"),
        (listing([0.1 * k for k in range(1, 9)]), "0.1, 0.2, \u2026, 0.8 (8)"),
    ],
)
def test_numbers_read_well(text: str, expected: str):
    assert text.replace("\u00a0", " ") == expected


def test_where_the_truth_is_not_known_a_scale_holds_all_of_the_forecast():
    """Known at the start alone, as of a profile that is forecast: 50 is no runaway there."""
    truth = np.array([[0.0, 1.0], [np.nan, np.nan]])
    forecast = np.array([[0.0, 9.0], [-3.0, 50.0]])
    scale = value_scale(truth, forecast, 255)
    assert (scale.low, scale.high) == (-3.0, 50.0)
