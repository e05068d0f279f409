"""Checkpoints belong to a run: those of another are not used, those of earlier versions are."""

import ast
import json
import os
import shutil
from pathlib import Path

import jax
import pytest
import xarray as xr
from small_problem import DIFFUSIVITY

from impindiff import InputError
from impindiff.config import load_config
from impindiff.forecast import UNSEEN, Seen
from impindiff.report import write_report
from impindiff.runs import RunFolder, certify, evaluate_run, train_run, trained_system
from impindiff.runs._seen import seen_by
from impindiff.train import Checkpoints, Progress, Trainer

# As commit 0b8618d wrote it.
EARLIER_CONFIG = f"""
title = "A small problem"
question = "Does it work?"
seed = 0
precision = "float32"
grid = [
    {{ name = "x", lower = -1.0, upper = 1.0, cells = 12, periodic = true }},
    {{ name = "y", lower = 0.0, upper = 1.0, cells = 6, periodic = true }},
]
[data]
fields = ["concentration"]
train_samples = "0:2"
train_times = [0.1]
test_samples = "2:4"
file = "../data.nc"
[system]
kind = "advection-diffusion"
scheme = "upwind"
diffusivity = {DIFFUSIVITY}
[system.velocity]
kind = "sine-field"
names = ["advection_x", "advection_y"]
width = 8
depth = 1
frequency = 6.0
output_range = [0.0, 1.0]
[time]
scheme = "crank-nicolson"
dt = 0.05
until = 0.2
substeps = 1
accept_unstable = false
[solver]
method = "bicgstab"
preconditioner = "none"
rtol = 1e-06
max_steps = 200
adjoint_rtol = 1e-05
adjoint_max_steps = 200
adjoint = "implicit"
[training]
stages = [
    {{ optimiser = "adam", epochs = 4, learning_rate = 0.004, freeze = [] }},
    {{ optimiser = "lbfgs", epochs = 5, memory = 5, freeze = [] }},
]
validate_every = 2
checkpoint_every = 3
freeze = []
"""
# The names that it gave the arrays of this system.
VELOCITY = "equations['concentration'][0].velocity"
EARLIER_NAMES = [
    f"000.{VELOCITY}.hidden.layers[0].weight",
    f"001.{VELOCITY}.hidden.layers[0].bias",
    f"002.{VELOCITY}.head.weight",
    f"003.{VELOCITY}.head.bias",
    f"004.{VELOCITY}.output.midpoint",
    f"005.{VELOCITY}.output.half_width",
]
UNSEALED = "is of an earlier version, which kept no hashes"


@pytest.fixture
def run(finished: Path) -> RunFolder:
    return RunFolder(finished / "run")


def change_provenance(of: RunFolder, **entries) -> None:
    """Set entries of a run's provenance; None takes one out."""
    made = of.read_json("provenance.json") | entries
    of.write_json("provenance.json", {k: v for k, v in made.items() if v is not None})


def make_earlier(run: RunFolder) -> None:
    """Take out of a run what earlier versions did not write."""
    for folder in run.checkpoints.folder.iterdir():
        (folder / "sha256.json").unlink()
        (folder / "run.json").unlink()
    change_provenance(run, run=None, config_sha256=None)
    run.write_text("config.toml", EARLIER_CONFIG)


def resume(finished: Path, run: RunFolder):
    config = load_config(run.config_file)
    return train_run(config, finished / "data.nc", run, resume=True)


@pytest.mark.thorough
def test_a_run_and_its_checkpoints_have_one_identity(run: RunFolder):
    identity = run.read_json("provenance.json")["run"]
    folders = list(run.checkpoints.folder.iterdir())
    assert len(folders) == 2 and len(identity) == 32
    for folder in folders:
        assert json.loads((folder / "run.json").read_text()) == {"run": identity}


def test_a_checkpoint_of_another_run_is_passed_over(finished: Path, run: RunFolder):
    """Arrays of the same shapes, and a higher number."""
    expected = evaluate_run(run, finished / "data.nc")
    learned = Trainer.split(trained_system(run))[0]
    other = Checkpoints(finished / "other", run="another")
    other.save(Progress(epoch=90, finished=True), jax.tree.map(lambda a: 2 * a, learned), None)
    finished_at = run.checkpoints.progress()
    shutil.copytree(finished / "other" / "1", copied := run.checkpoints.folder / "90")
    message = r"90 is of another run \(its run.json names another, .*checkpoint before it is taken"
    with pytest.warns(RuntimeWarning, match=message):
        assert evaluate_run(run, finished / "data.nc") == expected
    with pytest.warns(RuntimeWarning, match=message):
        assert run.checkpoints.progress() == finished_at
    run.checkpoints.save(Progress(epoch=10), learned, None)
    assert copied.is_dir(), "what is of another run is not ours to remove"


@pytest.mark.parametrize("identity", ["another", None])
def test_where_none_is_of_this_run_that_is_refused(finished: Path, run: RunFolder, identity):
    """As where the whole folder of checkpoints was copied, into an earlier run, too."""
    change_provenance(run, run=identity)
    for use in (trained_system, lambda run: resume(finished, run)):
        with pytest.raises(InputError, match="No checkpoint of this run is left. Copy") as caught:
            use(run)
        assert f"of this run {identity or 'none'})" in str(caught.value)


@pytest.mark.thorough
@pytest.mark.parametrize("identity", [3, "missing"])
def test_without_an_identity_that_is_said(finished: Path, run: RunFolder, identity):
    expected = evaluate_run(run, finished / "data.nc")
    change_provenance(run, run=identity)
    if identity == "missing":
        os.remove(run.path / "provenance.json")
    with pytest.warns(RuntimeWarning, match="does not tell which run this is"):
        assert evaluate_run(run, finished / "data.nc").fields == expected.fields


@pytest.mark.parametrize("identity", [3, [], {"a": 1}])
def test_without_an_identity_training_does_not_go_on(finished: Path, run: RunFolder, identity):
    """The checkpoints of any run would be taken, and the rest written beside the old evidence."""
    change_provenance(run, run=identity)
    with pytest.raises(InputError, match="'run' is no text: .* may be of another"):
        resume(finished, run)


@pytest.mark.parametrize("times", [None, [], [float("nan")]])
def test_without_what_it_was_trained_on_that_is_said(finished: Path, run: RunFolder, times):
    """A copy of its data is not taken for held back in silence, nor is its own file at all."""
    data = run.read_json("provenance.json")["data"]
    data["sha256"] = "0" * 64
    data["trained"] = None if times is None else data["trained"] | {"times": times}
    change_provenance(run, data=data)
    config = run.config()
    own = run.path / (config.data.file or "")
    copy = Path(shutil.copy(own, finished / "copy.nc"))
    with xr.open_dataset(own, decode_times=False) as dataset:
        assert seen_by(run, config, own, dataset) == Seen([0, 1], [0.1])
        with pytest.warns(RuntimeWarning, match="does not tell what the run was trained on"):
            assert seen_by(run, config, copy, dataset) == UNSEEN


def test_without_the_hash_of_the_config_that_is_said(run: RunFolder):
    change_provenance(run, config_sha256=None)
    with pytest.warns(RuntimeWarning, match="whether config.toml was edited .* is not known"):
        trained_system(run)


@pytest.mark.thorough
@pytest.mark.filterwarnings("default::RuntimeWarning")
def test_a_run_of_an_earlier_version_works(finished: Path, run: RunFolder):
    expected = evaluate_run(run, finished / "data.nc")
    make_earlier(run)
    with pytest.warns(RuntimeWarning, match=UNSEALED):
        found = evaluate_run(run, finished / "data.nc")
    # The config of then solves to another tolerance.
    assert found.latent == expected.latent
    assert found.fields["concentration"].relative_l1_percent == pytest.approx(
        expected.fields["concentration"].relative_l1_percent, rel=1e-3
    )
    with pytest.warns(RuntimeWarning, match=UNSEALED):
        assert resume(finished, run).samples == [2, 3]
    with pytest.warns(RuntimeWarning, match=UNSEALED):
        assert certify(run.config(), finished / "data.nc", run, 1).passed
    assert write_report(run.path).exists()


def test_arrays_have_the_names_that_they_always_had(run: RunFolder):
    newest = run.checkpoints.newest()
    assert newest is not None
    kept = json.loads((newest / "learned" / "_METADATA").read_text())["tree_metadata"]
    assert [ast.literal_eval(key)[0] for key in kept] == EARLIER_NAMES


@pytest.mark.thorough
@pytest.mark.filterwarnings("default::RuntimeWarning")
def test_another_state_of_an_optimiser_is_named(finished: Path, run: RunFolder):
    """L-BFGS kept another one before: in the middle of its stage such a run cannot go on."""
    learned = Trainer.split(trained_system(run))[0]
    change_provenance(run, run=None)
    shutil.rmtree(run.checkpoints.folder)
    middle = Progress(epoch=6, stage=1, stage_epoch=2)
    run.checkpoints.save(middle, learned, (((0, learned), {"count": 2}), None))
    with pytest.raises(InputError, match="its optimiser cannot go on in the middle of a stage"):
        resume(finished, run)
    assert evaluate_run(run, finished / "data.nc"), "what was learned is there"


@pytest.mark.thorough
# The array store may leave a read under way behind.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("default::RuntimeWarning")
@pytest.mark.parametrize("left", [0, 0.5])
def test_damage_to_an_earlier_checkpoint_is_a_message_or_unseen(
    finished: Path, run: RunFolder, left: float
):
    """Its files have no hashes; what the array store finds is said."""
    make_earlier(run)
    newest = run.checkpoints.newest()
    assert newest is not None
    outcomes = []
    for file in sorted(path for path in newest.rglob("*") if path.is_file()):
        content = file.read_bytes()
        file.write_bytes(content[: int(left * len(content))])
        try:
            trained_system(run)
            run.checkpoints.progress()
            outcomes.append("used")
        except InputError:
            outcomes.append("refused")
        file.write_bytes(content)
    assert outcomes.count("refused") > 3
    shutil.rmtree(newest / "progress")
    with pytest.warns(RuntimeWarning, match="sha256.json is missing. The checkpoint before it"):
        trained_system(run)
