"""The paper's experiments, beside the baselines that they are compared with.

Each row is a fresh process of the command line that trains a built-in case by one method, forecasts
the samples that were not trained on, beyond the training times, and is scored. All methods of a
case have the same data and the same snapshots:

- `impindiff`: the case as it is;
- the same with other fields for the unknown, or without what is known of it;
- the same with other ways to take steps and to differentiate them: explicit ones, in as many parts
  as are stable, and reverse mode through all fixed-point iterations ("unrolled"). The latter has
  the gradient of the former, up to its tolerance, so that it is not trained to its end;
- a recurrent network that knows no equation ("network");
- with `--reference FOLDER`, the case on data made by the paper's own code, at the times there that
  are nearest to its own.

Finished runs are kept in `--out` and taken from there the next time; one that was interrupted goes
on. `--case NAME` selects; `--quick` trains next to nothing, to see whether all works. A method that
fails has a row, too, which says how.

Errors are relative L1 errors in percent, means over samples; of the unknown relative L2 errors.
What an epoch costs is measured apart, in runs of a few epochs, one after the other at the end:
seconds of the first, which compiles, and the median of the others; so that times compare even if
the machine was shared in the hours before. Seconds to 1 % are the epochs until a forecast of the
whole time was as good, each as long as that median, and the first.
"""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import xarray as xr

from impindiff import CASES, InputError
from impindiff.benchmark import case_data, case_files, cost_of, epochs_of, errors_of, train_once

Changes = list[str]


def stages(**epochs: int) -> str:
    """Optimisers, one after the other, as a change of the config."""
    rates = {"adam": ",learning_rate=4e-3"}
    each = (f'{{optimiser="{n}",epochs={k}{rates.get(n, "")}}}' for n, k in epochs.items())
    return f"training.stages=[{','.join(each)}]"


NETWORK = ["time.scheme=forward-euler", "time.dt=0.05", stages(adam=100)]
RUNGE_KUTTA = ["time.scheme=runge-kutta-4", "time.substeps=2"]
EULER = ["time.scheme=forward-euler", "time.substeps=4"]
UNROLLED = "Crank-Nicolson, unrolled"
UNROLL = ["solver.nonlinear=anderson", "solver.adjoint=unrolled", "solver.max_steps=20"]


def fields(option: str, *names: str) -> dict[str, Changes]:
    """The same case with other fields for the unknown."""
    training = stages(adam=100, lbfgs=100)
    return {f"field: {name}": [f"system.options.{option}={name}", training] for name in names}


STEPS: dict[str, Changes] = {
    "forward Euler, 4 substeps": EULER,
    "Runge-Kutta 4, 2 substeps": RUNGE_KUTTA,
    UNROLLED: UNROLL,
}
NETWORK_ALONE = 'system={build="impindiff.cases.advection_diffusion_steady.system:build_network"}'
KNOWS_NOTHING = {"network": ["system.options.model=network", *NETWORK]}
IN_TIME = fields("conditioning", "separable", "film", "hypernetwork")
FEWER_IN_TIME = fields("conditioning", "separable", "hypernetwork")
METHODS: dict[str, dict[str, Changes]] = {
    "advection-diffusion-steady": {
        "impindiff": [],
        **STEPS,
        "network": [NETWORK_ALONE, *NETWORK],
    },
    "advection-diffusion-dynamic": {"impindiff": [], **IN_TIME, **STEPS, **KNOWS_NOTHING},
    "burgers-steady": {"impindiff": [], **fields("field", "network"), **STEPS, **KNOWS_NOTHING},
    "burgers-dynamic": {"impindiff": [], **FEWER_IN_TIME, **STEPS, **KNOWS_NOTHING},
    "burgers-vector": {"impindiff": [], **STEPS},
    "vapour-infiltration": {
        "impindiff": [],
        "backward Euler, 7,200 s": ["time.scheme=backward-euler", "time.dt=7200.0"],
        "forward Euler": ["time.scheme=forward-euler"],
    },
    "vapour-infiltration-2d": {"impindiff": []},
}
# What the paper reports or its code prints, of its own data: relative L1 errors in percent.
PAPER = {
    "advection-diffusion-steady": "0.168 to 0.176 at t = 0.2",
    "advection-diffusion-dynamic": "mostly under 2 to t = 0.4",
}
FEW = 4


def is_trained(method: str) -> bool:
    """Whether to the end; otherwise only its cost is measured."""
    return method != UNROLLED


def few(changes: Changes) -> str:
    """The optimiser that the method begins with, for a few epochs."""
    training = [change for change in changes if change.startswith("training.stages")]
    return stages(adam=FEW) if training and "adam" in training[0] else stages(lbfgs=FEW)


def rows(
    case: str | None = None,
    out: Path | None = None,
    quick: bool = False,
    reference: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """A row for each case and method, see above."""
    available = [name for name in CASES if name in METHODS]
    if case is not None and case not in available:
        raise InputError(f"there is no case {case!r} here; allowed: {', '.join(available)}.")
    if reference is not None and not reference.is_dir():
        raise InputError(f"{reference} is no folder: data files in it are named by their case.")
    folder = out or Path("benchmark-paper-quick" if quick else "benchmark-paper")
    found = [
        trained(name, method, changes, folder / name, quick)
        for name in ([case] if case else available)
        for method, changes in METHODS[name].items()
    ]
    for row in found:
        if "failed" not in row:
            changes = METHODS[row["case"]][row["method"]]
            row |= costs(row["case"], row["method"], changes, folder / row["case"])
        yield row
    for name in [case] if case else available:
        file = reference / f"{name.replace('-', '_')}.nc" if reference else None
        if file and file.exists():
            yield on_data(name, file, folder / name, quick)


def trained(case: str, method: str, changes: Changes, out: Path, quick: bool) -> dict[str, Any]:
    """The row of a method: from its folder, once it has finished there."""
    config, data = case_files(case, out / "case"), case_data(case, out / "data.nc")
    row = {"case": case, "method": method}
    if not is_trained(method):
        return row
    made = [*changes, few(changes)] if quick else changes
    if failure := train_once(config, data, out / plain(method), made):
        return row | {"failed": failure}
    return row | errors_of(out / plain(method)) | {"paper": PAPER.get(case)}


def costs(case: str, method: str, changes: Changes, out: Path) -> dict[str, Any]:
    """What it takes, measured apart."""
    folder = out / f"cost-{plain(method)}"
    only = [few(changes), "training.validate_every=100"]
    if failure := train_once(out / "case" / "config.toml", out / "data.nc", folder, changes + only):
        return {"failed": failure}
    cost: dict[str, Any] = cost_of(folder)
    ends = epochs_of(out / plain(method)) if is_trained(method) else []
    good = [number for number, end in enumerate(ends) if (end.get("validation") or 100) < 1.0]
    if good:
        cost["seconds_to_1_percent"] = (
            cost["seconds_of_first_epoch"] + good[0] * cost["seconds_an_epoch"]
        )
    return cost


def on_data(case: str, file: Path, out: Path, quick: bool) -> dict[str, Any]:
    """The case on data that were not made here."""
    row = {"case": case, "method": f"impindiff, on {file.name}"}
    config = case_files(case, out / "case")
    changes = [f"data.train_times={nearest(config, file)}", *([few([])] if quick else [])]
    failure = train_once(config, file, out / "reference", changes)
    return row | ({"failed": failure} if failure else errors_of(out / "reference"))


def nearest(config: Path, file: Path) -> list[float]:
    """The times in other data that come nearest to those that a case is trained at."""
    wanted = tomllib.loads(config.read_text())["data"]["train_times"]
    with xr.open_dataset(file) as data:
        found = data["time"].sel(time=wanted, method="nearest").values
    # As text, since single precision is not meant to be read to the last digit.
    return [float(str(time)) for time in found]


def plain(method: str) -> str:
    """A name for its folder."""
    return "".join(letter if letter.isalnum() else "-" for letter in method)


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Errors against time, a panel for each case."""
    drawn = [row for row in rows if "times" in row]
    cases = list(dict.fromkeys(row["case"] for row in drawn))
    columns = min(len(cases), 3)
    lines = -(-len(cases) // columns)
    figure, panels = plt.subplots(
        lines, columns, figsize=(4.6 * columns, 4.2 * lines), squeeze=False
    )
    for panel in panels.flat[len(cases) :]:
        panel.set_axis_off()
    for panel, case in zip(panels.flat, cases, strict=False):
        for row in drawn:
            if row["case"] == case:
                panel.semilogy(row["times"][1:], row["errors_percent"][1:], label=row["method"])
        panel.set(title=case, xlabel="time", ylabel="relative L1 error [%]")
        panel.legend(fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.17))
    figure.tight_layout()
    figure.savefig(file, dpi=150)
    plt.close(figure)
