"""The command line. Heavy imports stand inside the commands, so that `--help` answers at once."""

import importlib.metadata
import json
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from impindiff.cli._benchmark import benchmark
from impindiff.cli._check_gradient import check_gradient
from impindiff.cli._console import answer, ask
from impindiff.cli._errors import reported, saved_on_failure
from impindiff.cli._options import (
    AsJson,
    CaseName,
    Changes,
    DataFile,
    Memory,
    Out,
    RunPath,
    Samples,
    Seed,
    Trust,
)

if TYPE_CHECKING:
    from impindiff.config import Config
    from impindiff.runs import RunFolder

app = typer.Typer(
    name="impindiff",
    help="Learn the unknown part of a process from measurements, and forecast the whole of it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(is_asked: bool) -> bool:
    if is_asked:
        typer.echo(f"impindiff {importlib.metadata.version('impindiff')}")
        raise typer.Exit
    return is_asked


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Take the options that come before a command."""


class Preset(StrEnum):
    """How much effort a built-in case makes."""

    quick = "quick"
    paper = "paper"


@app.command()
@reported
def cases(
    name: Annotated[str | None, typer.Argument(metavar="CASE", help="Which to write.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the files of CASE, to start from.")
    ] = None,
) -> None:
    """List the built-in cases, a line each; or write the config and code of one, to change it."""
    from impindiff.cases import CASES, case_named
    from impindiff.cli._cases import write_case

    if (name is None) != (out is None):
        raise typer.BadParameter("CASE and --out go together: which case, and where to.")
    if name is not None and out is not None:
        answer(write_case(case_named(name), out))
        return
    for case in CASES.values():
        answer(f"{case.name}  {case.summary} (presets: {', '.join(case.presets)})")


@app.command()
@reported
def run(
    case: CaseName,
    out: Out = None,
    preset: Annotated[Preset, typer.Option("--preset", help="quick or paper.")] = Preset.quick,
    seed: Seed = 0,
    known: Annotated[
        bool, typer.Option("--known", help="Train nothing: run the forward model, truth and all.")
    ] = False,
    changes: Changes = None,
) -> None:
    """Generate data, train, forecast, evaluate and report, in one go."""
    from impindiff.cases import case_named
    from impindiff.cli._cases import known_changes, write_data
    from impindiff.cli._console import say
    from impindiff.cli._show import summary_lines
    from impindiff.config import changed, parse_config
    from impindiff.runs import RunFolder, new_folder, simulate_run

    chosen = case_named(case)
    if known:
        changes = [*known_changes(chosen), *(changes or [])]
    recipe = changed(chosen.recipe(preset.value) | {"seed": seed}, changes or [])
    config = parse_config(recipe, f"case {case}", chosen.path)
    stem = f"{case}-{'known' if known else preset.value}"
    if out:
        RunFolder(out).check_free()
    where = nullcontext(RunFolder(out)) if out else new_folder(stem)
    with where as folder, folder.claimed():
        say("generating data")
        write_data(chosen.generate(chosen.samples, seed), folder.data_file)
        if known:
            scores = simulate_run(config, folder.data_file, folder, say=say)
            answer(summary_lines(folder, scores))
        else:
            _train(config, folder.data_file, folder, resume=False)


@app.command()
@reported
def generate(
    case: CaseName,
    out: Annotated[Path, typer.Option("--out", help="File to write, .nc or .zarr.")],
    samples: Samples = None,
    seed: Seed = 0,
) -> None:
    """Make the data of a built-in case."""
    from impindiff.cases import case_named
    from impindiff.data import check_writable, save_dataset

    chosen = case_named(case)
    check_writable(out)
    save_dataset(chosen.generate(samples := samples or chosen.samples, seed), out)
    answer(f"{out}: {samples} samples")


@app.command()
@reported
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="What to do.")],
    data: DataFile = None,
    out: Out = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    memory: Memory = None,
    changes: Changes = None,
    trust: Trust = False,
) -> None:
    """Train on data, then forecast, evaluate and report."""
    from impindiff._errors import InputError
    from impindiff.config import with_memory
    from impindiff.runs import RunFolder, new_folder, open_config

    loaded = open_config(config, changes or [], trust=trust, ask=ask)
    if memory is not None:
        loaded = with_memory(loaded, memory)
    if data is None and loaded.data.file is None:
        raise InputError(f"{config} names no data file: give one with --data, or as data.file.")
    if resume and out is None:
        raise InputError("--resume needs --out: the run folder to go on with.")
    source = data or config.parent / str(loaded.data.file)
    with nullcontext(RunFolder(out)) if out else new_folder(config.stem) as folder:
        _train(loaded, source, folder, resume=resume)


def _train(config: "Config", data: Path, folder: "RunFolder", *, resume: bool) -> None:
    from impindiff.cli._console import say
    from impindiff.cli._progress import training_bar
    from impindiff.cli._show import summary_lines
    from impindiff.runs import train_run

    with training_bar() as (expect, watch), saved_on_failure(folder):
        scores = train_run(config, data, folder, resume=resume, watch=watch, say=say, expect=expect)
    answer(summary_lines(folder, scores))


@app.command()
@reported
def forecast(
    run: RunPath,
    initial: Annotated[Path, typer.Option("--initial", help="Data file with initial fields.")],
    until: Annotated[float, typer.Option("--until", help="Last time.")],
    out: Annotated[Path, typer.Option("--out", help="File to write, .nc or .zarr.")],
    every: Annotated[
        float | None,
        typer.Option("--every", help="Interval of saved times; the time step by default."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", help="Initial time: first (the default) or last of the file, or a number."
        ),
    ] = None,
    trust: Trust = False,
) -> None:
    """Forecast the samples of a data file with a trained run.

    With --from last and the same file as --initial and --out, a .zarr forecast is continued.
    """
    from impindiff.cli._forecast import write_forecast
    from impindiff.runs import RunFolder, check_trusted

    check_trusted(RunFolder(run), trust=trust, ask=ask)
    answer(write_forecast(run, initial, out, until, every, start))


@app.command()
@reported
def evaluate(
    run: RunPath,
    data: Annotated[Path, typer.Option("--data", help="Data file with the truth.")],
    samples: Annotated[
        str, typer.Option("--samples", help="Which, such as 5:10; all by default.")
    ] = ":",
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Forecast samples of a data file and compare with it."""
    from impindiff.cli._show import score_table
    from impindiff.runs import RunFolder, check_trusted, evaluate_run

    check_trusted(RunFolder(run), trust=trust, ask=ask)
    scores = evaluate_run(RunFolder(run), data, samples)
    answer(scores.model_dump_json() if as_json else score_table(scores))


@app.command()
@reported
def report(run: RunPath) -> None:
    """Draw the report of a run again."""
    from impindiff.report import write_report

    answer(str(write_report(run)))


app.command()(check_gradient)


@app.command()
@reported
def plan(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="What would be trained.")],
    data: DataFile = None,
    memory: Memory = None,
    changes: Changes = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Say what a gradient will take of memory and time, before it is computed."""
    from impindiff.cli._show import plan_table
    from impindiff.runs import open_config, plan_run

    loaded = open_config(config, changes or [], trust=trust, ask=ask)
    named = loaded.data.file
    found = plan_run(loaded, data or (config.parent / named if named else None), memory)
    answer(json.dumps(found.as_dict()) if as_json else plan_table(found))


app.command()(benchmark)


@app.command()
@reported
def doctor(as_json: AsJson = False) -> None:
    """Say versions, devices and memory, and what is wrong."""
    from impindiff.cli._doctor import diagnose, render

    diagnosis = diagnose()
    answer(json.dumps(diagnosis.as_dict()) if as_json else render(diagnosis))
    raise typer.Exit(diagnosis.exit_status)
