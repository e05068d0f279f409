"""Writing the files of a built-in case, for users to change."""

import shutil
from pathlib import Path

from impindiff._errors import InputError
from impindiff.cases import Case


def write_case(case: Case, out: Path) -> str:
    """Copy the config and code of a case into a folder, and say how to go on.

    Raises: InputError for a folder that is not empty, or cannot be written.
    """
    files = {"config.toml": case.path / case.config_file}
    files |= {file.name: file for file in case.code_files}
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out}: is there already; choose a folder that is new or empty.")
        out.mkdir(parents=True, exist_ok=True)
        for name, file in files.items():
            shutil.copyfile(file, out / name)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror or error}).") from None
    return (
        f"{out}: {', '.join(files)}. Go on with\n"
        f"  impindiff generate {case.name} --out {out / 'data.nc'}\n"
        f"  impindiff train {out / 'config.toml'} --data {out / 'data.nc'}"
    )
