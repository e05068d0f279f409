"""Data beyond what learned functions are made for are refused before anything is trained."""

import jax
import numpy as np
import pytest
from small_problem import DT, make_dataset

import impindiff as ipd
from impindiff import InputError
from impindiff.train import Observations, Trainer, check_expected

NAME = "concentration"
KEY = jax.random.key(0)
DATA = make_dataset((12,))  # from 0.5 to 1.5 at first
GRID = ipd.grid_of(DATA, NAME)


def system(learned, **options) -> ipd.System:
    return ipd.System(GRID, {NAME: [ipd.Reaction(learned)]}, **options)


def closure(**inputs) -> ipd.NeuralClosure:
    return ipd.NeuralClosure("k", inputs, key=KEY)


def check(learned, data=DATA, observe=None, **options) -> None:
    made = system(learned, **options)
    check_expected(made, Observations.of(made, data, "0:2", observe=observe))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "learned",
    [
        closure(concentration=(0.0, 1.0)),
        ipd.latents.ConvolutionalClosure("k", {NAME: (0.0, 1.0)}, 1, levels=1, key=KEY),
    ],
    ids=["cell by cell", "convolutional"],
)
def test_a_range_that_leaves_the_data_out_is_refused_before_training(learned):
    made = system(learned)
    observations = Observations.of(made, DATA, "0:2")
    told = (
        r"k\(concentration\) expects 'concentration' in \(0, 1\), but in the data it lies in "
        r"\(0.5\d*, 1.\d+\).*Write {'concentration': \(0.5, 1.5\)}"
    )
    with pytest.raises(InputError, match=told):
        Trainer(made, observations, DT, [ipd.Stage(ipd.Adam(), 1)])


@pytest.mark.parametrize("high", [1.4, 2.0, 50.0])
def test_a_little_beyond_is_no_matter_and_wider_is_none(high):
    """Up to a tenth of the range's width: (0, 1.4) reaches to 1.54, and (0, 1.3) to 1.43."""
    check(closure(concentration=(0.0, high)))
    with pytest.raises(InputError, match="Write"):
        check(closure(concentration=(0.0, 1.3)))


def test_noise_that_is_known_is_taken_off():
    wild = DATA.copy(deep=True)
    wild[NAME][0, 2, 3] = 2.9
    learned = closure(concentration=(0.0, 2.0))
    with pytest.raises(InputError, match=r"lies in \(0.5\d*, 2.9\)"):
        check(learned, wild)
    check(learned, wild, [ipd.Cells(NAME, noise=0.5)])
    with pytest.raises(InputError, match=r"lies in \(0.5\d*, 2.5\)"):
        check(learned, wild, [ipd.Cells(NAME, noise=0.1)])


def test_readings_sample_parameters_time_and_place_are_looked_at():
    data = DATA.assign(seen=DATA[NAME] + 1, heat=("sample", [1e3, 1.1e3, 1.2e3, 1.3e3]))
    seen = [ipd.Cells(NAME, "seen")]
    with pytest.raises(InputError, match="expects 'concentration' in"):
        check(closure(concentration=(0.0, 2.0)), data, seen)
    with pytest.raises(InputError, match=r"'heat' in \(0, 1\), but .* in \(1000, 1100\)"):
        check(closure(heat=(0.0, 1.0)), data, parameters=("heat",))
    with pytest.raises(InputError, match=r"'t' in \(0, 0.1\), but .*Write {'t': \(0, 0.2\)}"):
        check(closure(t=(0.0, 0.1)))
    with pytest.raises(InputError, match=r"'x' in \(0, 1\).*Write {'x': \(-1, 1\)}"):
        check(closure(x=(0.0, 1.0)))
    check(closure(x=(-1.0, 1.0), t=(0.0, 0.2), concentration=(0.0, 2.0)))


def test_what_stands_in_solid_cells_is_no_matter():
    solid = np.arange(12) == 4
    grid = ipd.Grid.uniform((12,), ((-1.0, 1.0),), periodic=True, solid=solid)
    data = DATA.copy(deep=True)
    data[NAME][:, :, 4] = 99.0
    made = ipd.System(grid, {NAME: [ipd.Reaction(closure(concentration=(0.0, 2.0)))]})
    check_expected(made, Observations.of(made, data, "0:2"))


FIELDS = {
    "spectral": lambda span: ipd.latents.SpectralField(1, ("k",), 2, span, degree=1),
    "separable": lambda span: ipd.latents.SeparableField(1, ("k",), span, key=KEY),
    "film": lambda span: ipd.latents.FilmField(1, ("k",), span, key=KEY),
    "hypernetwork": lambda span: ipd.latents.HypernetworkField(1, ("k",), span, key=KEY),
}


@pytest.mark.many
@pytest.mark.parametrize("kind", FIELDS)
def test_a_span_that_leaves_out_times_is_refused(kind):
    """Of training, before it; and of a forecast."""
    told = r"the field k has the time span \(0, 0.1\), but {} goes from t = 0 to {}.*span=\(0, {}\)"
    short = system(FIELDS[kind]((0.0, 0.1)))
    with pytest.raises(InputError, match=told.format("training", 0.2, 0.2)):
        check_expected(short, Observations.of(short, DATA, "0:2"))
    check_expected(short, Observations.of(short, DATA, "0:2", [0.1]))
    with pytest.raises(InputError, match=told.format("the forecast", 0.3, 0.3)):
        ipd.predict(short, DATA, times=[0.1, 0.3], dt=DT)


def test_what_does_not_vary_in_time_has_no_span():
    assert ipd.latents.SpectralField(1, ("k",), 2).time_span is None
    assert ipd.Parameter("k", 1.0, (0.0, 2.0)).time_span is None
