"""Built-in cases: writing their files, for users to change, and what puts the truth in them."""

from pathlib import Path

import xarray as xr

from impindiff._errors import InputError
from impindiff.cases import CASES, Case
from impindiff.data import open_dataset, save_dataset


def known_changes(case: Case) -> tuple[str, ...]:
    """What puts the truth in the place of what a case has to learn.

    Raises: InputError for a case that cannot be given it.
    """
    if not case.known:
        others = ", ".join(other.name for other in CASES.values() if other.known)
        raise InputError(
            f"--known: case {case.name!r} has no option to be given what it is to learn. Leave "
            f"--known out; the cases that have one are {others}."
        )
    return case.known


def write_data(dataset: xr.Dataset, file: Path) -> None:
    """Write the data of a run where there are none, but for those that a killed run left.

    Raises: InputError for other data, which are somebody's, and as `save_dataset`.
    """
    if file.exists() and not open_dataset(file).equals(dataset):
        raise InputError(
            f"{file} is there already, and holds other data than this command makes: move it away, "
            "or choose another --out."
        )
    save_dataset(dataset, file, overwrite=True)


def write_case(case: Case, out: Path) -> str:
    """Write the config and code of a case into a folder, and say how to go on.

    The config then names the copy of the code, which is the user's to change.

    Raises: InputError for a folder that is not empty, or cannot be written.
    """
    config = (case.path / case.config_file).read_text(encoding="utf-8")
    module = f"impindiff.cases.{case.folder}.system"
    files = {
        "config.toml": config.replace(f'"{module}:', '"system:'),
        "system.py": (case.path / "system.py").read_text(encoding="utf-8"),
    }
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out}: is there already; choose a folder that is new or empty.")
        out.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror or error}).") from None
    return (
        f"{out}: {', '.join(files)}. Go on with\n"
        f"  impindiff generate {case.name} --out {out / 'data.nc'}\n"
        f"  impindiff train {out / 'config.toml'} --data {out / 'data.nc'}"
    )
