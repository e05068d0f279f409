"""What of a data file a run has seen in training, told by the readings and not by the file.

The same data may be read from a copy, from another format, or compressed otherwise, with samples
left out or in another order. So each training sample has a hash of what was read of it.
"""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import xarray as xr

from impindiff._errors import InputError, warn_caller
from impindiff.config import Config
from impindiff.data import file_sha256, select_samples, times_of
from impindiff.forecast import UNSEEN, Seen
from impindiff.runs._folder import RunFolder
from impindiff.runs._run_plan import RunPlan
from impindiff.runs._user_code import Readings, evidence_of


def readings_of(plan: RunPlan) -> Readings:
    """What a run is trained on, for its provenance."""
    names, times = sorted(plan.observations.observed), [*map(float, plan.observations.times)]
    hashes = _hashes(plan.dataset, names, times, plan.train_samples)
    return Readings(variables=names, times=times, samples=hashes)


def seen_by(folder: RunFolder, config: Config, data: Path, dataset: xr.Dataset) -> Seen:
    """What of a data file a run was trained on.

    Args:
        folder: the run.
        config: of the run.
        data: the file.
        dataset: its content.

    Warns: RuntimeWarning where that cannot be known.
    """
    is_own = False
    with suppress(OSError):  # it is gone, or lies where this user may not look
        is_own = os.path.samefile(folder.path / (config.data.file or ""), data)
    evidence, is_earlier = None, folder.identity == ""
    with suppress(InputError):
        evidence = evidence_of(folder).data
    if evidence is None or not (is_earlier or _says_something(evidence.trained)):
        if not is_own:
            warn_caller(
                f"{folder.path / 'provenance.json'} does not tell what the run was trained on: all "
                f"readings of {data} are taken for held back.",
            )
        return _by_config(config, dataset) if is_own else UNSEEN
    trained = evidence.trained
    if trained is None:  # of an earlier version
        is_same = is_own or evidence.sha256 == file_sha256(data)
        return _by_config(config, dataset) if is_same else UNSEEN
    if not all(_is_laid_out(dataset, name) for name in trained.variables):
        return UNSEEN  # what is wrong with it is said where it is compared
    everything = range(dataset.sizes["sample"])
    found = _hashes(dataset, trained.variables, trained.times, everything)
    positions = [at for at in everything if found[at] in trained.samples]
    return Seen(positions, trained.times) if positions else UNSEEN


def _says_something(trained: Readings | None) -> bool:
    """Whether what a run was trained on has not been damaged beyond use."""
    if trained is None or not (trained.variables and trained.times and trained.samples):
        return False
    return bool(np.isfinite(trained.times).all())


def _is_laid_out(dataset: xr.Dataset, name: str) -> bool:
    """Whether a dataset has numbers of this name for each sample."""
    if name not in dataset.data_vars:
        return False
    return dataset[name].dims[:1] == ("sample",) and dataset[name].dtype.kind in "fiu"


def _by_config(config: Config, dataset: xr.Dataset) -> Seen:
    """What training has seen of the data that the run was begun with."""
    # Of other data there may be fewer samples.
    return Seen(select_samples(dataset, config.data.train_samples), config.data.train_times)


def _hashes(
    dataset: xr.Dataset, names: Sequence[str], times: Sequence[float], samples: Sequence[int]
) -> list[str]:
    """A hash for each sample, of what was read of it at these times."""
    clock = times_of(dataset)
    when = np.flatnonzero(np.isin(clock, times))
    read = {}
    for name in names:
        variable = dataset[name].variable
        read[name] = (variable.isel(time=when) if "time" in variable.dims else variable).values
    found = []
    for sample in samples:
        digest = hashlib.sha256(clock[when].astype("<f8").tobytes())
        for name in names:
            values = read[name][sample]
            digest.update(f"{name} {values.shape}".encode())
            digest.update(_rounded(values).tobytes())
        found.append(digest.hexdigest())
    return found


def _rounded(values: np.ndarray) -> np.ndarray:
    """Numbers to the digits of single precision, in which a file may have been written again."""
    # Not by a cast: what is small in its unit would become zero.
    part, power = np.frexp(values.astype("<f8"))
    rounded = np.ldexp(np.rint(np.ldexp(part, 24)), power - 24)
    return np.where(np.isnan(rounded), np.nan, rounded + 0.0).astype("<f8")
