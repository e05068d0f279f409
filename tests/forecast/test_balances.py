"""Balances of forecasts: in whole ones and in pieces, where steps are halved, and in scores."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import impindiff as ipd
from impindiff import continue_forecast, evaluate, forecast_to, predict
from impindiff.forecast._ledger import BalanceScore, Ledger

TIMES = [0.25, 0.5, 0.75, 1.0]


def system(rate: float = 1.0, **of_field) -> ipd.System:
    """What decays is counted; all numbers are exact in binary where the rate is a power of two."""
    return ipd.System(
        None,
        {"c": ipd.Field([ipd.Reaction(lambda lost: -lost)], **of_field)},
        coefficients={"lost": lambda c: rate * c},
        units={"all": "mol"},
        integrals={"gone": [ipd.Reaction(lambda lost: lost)]},
        balances={"all": {"here": lambda c: c, "gone": lambda gone: gone}},
    )


def lossy() -> ipd.System:
    """A quarter of what decays is not counted."""
    return ipd.System(
        None,
        {"c": [ipd.Reaction(lambda c: -c)]},
        integrals={"gone": [ipd.Reaction(lambda c: 0.75 * c)]},
        balances={"all": {"here": lambda c: c, "gone": lambda gone: gone}},
    )


@pytest.fixture
def data():
    described = {"c": {"units": "1", "long_name": "c"}}
    values = np.array([[1.0, 0.5], [4.0, 2.0]])
    return ipd.to_dataset(None, np.array([0.0, 1.0]), {"c": values}, attributes=described)


def noted(found) -> dict:
    return json.loads(found.attrs["balances"])


def test_a_forecast_and_its_scores_say_what_changed(data):
    options = {"times": [0.5, 1.0], "dt": 0.5, "stepper": ipd.steppers.ForwardEuler()}
    found = predict(system(), data, **options)
    assert found["gone"].values.tolist() == [[0.5, 0.75], [2.0, 3.0]]
    assert {name for name in found if "cell_methods" in found[name].attrs} == {"gone"}
    assert noted(found) == {
        "all": {
            "units": "mol",
            "worst_defect": 0.0,
            "changes": {"here": [-0.75, -3.0], "gone": [0.75, 3.0]},
        }
    }
    scores = evaluate(found, data, ":")
    assert scores.model_dump()["balances"] == noted(found)
    assert noted(predict(lossy(), data, **options))["all"]["worst_defect"] == 0.25
    assert not evaluate(data, data, ":").balances


@pytest.mark.parametrize("model", [system(), lossy()], ids=["closed", "lossy"])
@pytest.mark.parametrize("piece", [1, 10_000], ids=["a time each", "at once"])
def test_pieces_have_the_balances_of_the_whole(tmp_path: Path, data, model, piece):
    """Those of a forecast that is gone on with, too, whose integrals do not begin anew."""
    options = {"dt": 0.125, "stepper": ipd.steppers.RungeKutta4(), "piece": piece}
    whole = predict(model, data, times=TIMES, dt=0.125, stepper=ipd.steppers.RungeKutta4())
    path = tmp_path / "far.zarr"
    forecast_to(path, model, data, times=TIMES[:2], **options)
    stored = continue_forecast(path, model, times=TIMES, **options)
    assert stored is not None and stored.balances is not None
    with ipd.open_dataset(path) as found:
        np.testing.assert_allclose(found["gone"], whole["gone"], rtol=1e-6)
        assert noted(found) == {"all": stored.balances["all"].model_dump()}
    wanted = noted(whole)["all"]
    assert stored.balances["all"].worst_defect == pytest.approx(wanted["worst_defect"], abs=1e-6)
    for part, changes in wanted["changes"].items():
        assert stored.balances["all"].changes[part] == pytest.approx(changes, rel=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "stepper", [ipd.steppers.ForwardEuler(), ipd.CrankNicolson()], ids=["explicit", "implicit"]
)
def test_steps_that_are_halved_count_what_they_did(data, stepper):
    """Whole, each leads below zero; in parts, the integral is that of the parts."""
    model = system(8.0, bounds=(0.0, jnp.inf))
    found = predict(model, data, times=[0.5, 1.0], dt=0.5, stepper=stepper, dtype=np.float64)
    assert found.attrs["halved_steps"].startswith("t = 0 to 0.5 in ")
    assert found["c"].values[:, -1] == pytest.approx(0, abs=0.1)
    np.testing.assert_allclose(found["gone"], data["c"].values[:, :1] - found["c"], rtol=1e-14)
    assert noted(found)["all"]["worst_defect"] < 1e-14


def test_a_store_of_one_time_is_gone_on_with_from_there(tmp_path: Path, data):
    """And not from where the system lets fields and integrals begin."""
    model, store = system(initial=1.0), tmp_path / "one.zarr"
    how = {"dt": 0.25, "stepper": ipd.steppers.ForwardEuler()}
    forecast_to(store, model, data, times=[0.5], **how)
    continue_forecast(store, model, times=[0.5, 1.0], **how)
    whole = predict(model, data, times=[0.5, 1.0], **how)
    found = ipd.open_dataset(store)
    for name in ("c", "gone"):
        np.testing.assert_array_equal(found[name].values, whole[name].values)


def test_where_nothing_is_seen_to_happen_nothing_is_missing(data):
    """In single precision so slow a decay leaves what is there as it is, but is counted."""
    how = {"dt": 0.5, "stepper": ipd.steppers.ForwardEuler(), "dtype": jnp.float32}
    found = predict(system(1e-9), data, times=[1.0], **how)
    assert noted(found)["all"]["changes"]["here"] == [0.0, 0.0]
    assert 0 < noted(found)["all"]["worst_defect"] < 1e-5


@pytest.mark.parametrize("times", [[0.0, 0.5], [0.5]], ids=["from the start", "later"])
def test_what_is_left_of_a_forecast_is_gone_on_with(data, times):
    """However it was cut: integrals go on, and nothing begins as the system says it does."""
    model, how = system(initial=1.0), {"dt": 0.25, "stepper": ipd.steppers.ForwardEuler()}
    whole = predict(model, data, times=[0.0, 0.5, 1.0], **how)
    some = predict(model, data, times=times, **how)
    further = predict(model, some.isel(time=[-1]), times=[1.0], **how)
    again = predict(model, further, times=[1.0], **how)
    for name in ("c", "gone"):
        last = whole[name].values[:, -1]
        np.testing.assert_array_equal(further[name].values[:, -1], last)
        np.testing.assert_array_equal(again[name].values[:, -1], last)
    assert [each.attrs["begun"] for each in (whole, some, further)] == [0.0, 0.0, 0.0]


def test_what_a_forecast_began_with_is_begun_with_anew(data):
    """By a system that begins elsewhere: of its first time a forecast knows no better."""
    how = {"times": [0.0, 1.0], "dt": 0.5, "stepper": ipd.steppers.ForwardEuler()}
    found = predict(system(initial=2.0), predict(system(), data, **how), **how)
    assert found["c"].values[:, 0].tolist() == [2.0, 2.0]


@pytest.mark.parametrize("read", [None, "last"], ids=["all", "the last time alone"])
def test_what_went_on_from_data_is_gone_on_with(tmp_path: Path, data, read):
    """Of data that are no forecast, and of which it may be that one time was read."""
    first = data.isel(time=[0])
    later: Any = xr.concat([first, (7 * first).assign_coords(time=[2.0])], "time")
    ipd.save_dataset(later, tmp_path / "data.nc")
    model, how = system(initial=1.0), {"dt": 0.25, "stepper": ipd.steppers.ForwardEuler()}
    given = ipd.open_dataset(tmp_path / "data.nc", time=read)
    some = predict(model, given, start="last", times=[2.0, 2.5], **how)
    np.testing.assert_array_equal(some["c"].values[:, 0], later["c"].values[:, 1])
    for at in (0, 1):
        further = predict(model, some.isel(time=[at]), times=[float(some["time"][at])], **how)
        np.testing.assert_array_equal(further["c"].values[:, 0], some["c"].values[:, at])


def test_integrals_that_are_not_zero_tell_that_data_are_later(data):
    held = data.isel(time=[0]).assign(gone=data["c"].isel(time=[0]) * 0 + 3.0)
    how = {"times": [0.0], "dt": 0.5, "stepper": ipd.steppers.ForwardEuler()}
    found = predict(system(initial=2.0), held, **how)
    assert found["gone"].values.ravel().tolist() == [3.0, 3.0]
    assert found["c"].values.ravel().tolist() == [1.0, 4.0]
    assert "begun" not in found.attrs


def test_the_worst_defect_of_all_pieces_is_kept(data):
    """That of a piece before, be it greater or less; changes are counted from the beginning."""
    initial = {"c": jnp.asarray([1.0, 4.0]), "gone": jnp.asarray([0.0, 0.0])}
    states = {"c": np.array([[0.5], [2.0]]), "gone": np.array([[0.4], [2.0]])}
    for earlier in (0.5, 0.01):
        changed = {"here": [-0.5, -1.0], "gone": [0.5, 1.0]}
        before = {"all": BalanceScore(units="mol", worst_defect=earlier, changes=changed)}
        ledger = Ledger(system(), initial, {}, 2.0, before)
        ledger.add(np.array([3.0]), states)
        found = ledger.scores["all"]
        # Of the mole that has decayed in the first sample by now 0.1 is missing.
        assert found.worst_defect == pytest.approx(max(earlier, 0.1), rel=1e-12)
        assert found.changes["here"] == pytest.approx([-1.0, -3.0], rel=1e-12)
        assert found.changes["gone"] == pytest.approx([0.9, 3.0], rel=1e-12)
