"""What made a run: enough to make it again, or to see why it came out otherwise."""

import datetime
import importlib.metadata
import platform
import shlex
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import jax

from impindiff.config import Config, config_sha256
from impindiff.data import file_sha256
from impindiff.runs._user_code import Readings, hashes_of, seal_of

_PACKAGES = ("jax", "jaxlib", "equinox", "optax", "orbax-checkpoint", "numpy", "xarray", "h5netcdf")


def provenance(config: Config, data: Path, trained: Readings | None = None) -> dict[str, Any]:
    """An identity, versions, commit, device, seed and hashes, at the start of a run.

    Args:
        config: as resolved, its functions called.
        data: the data file.
        trained: what of it is trained on.
    """
    entry = {"file": str(data), "sha256": file_sha256(data)}
    device = jax.devices()[0]
    return {
        "run": uuid.uuid4().hex,
        "impindiff": importlib.metadata.version("impindiff"),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "commit": _commit(),
        "device": f"{device.platform}: {device.device_kind} x {jax.device_count()}",
        "platform": platform.platform(),
        "seed": config.seed,
        "config_sha256": config_sha256(config),
        "command": shlex.join([*_program(Path(sys.argv[0])), *sys.argv[1:]]),
        "started": now(),
        "data": entry | ({"trained": trained.model_dump()} if trained else {}),
        **({"code": code} if (code := hashes_of(config)) else {}),
        **seal_of(config, code),
    }


def _program(path: Path) -> list[str]:
    # Of `python -m package` the path is that of its `__main__.py`.
    return ["python", "-m", path.parent.name] if path.name == "__main__.py" else [path.name]


def now() -> str:
    """The present time, to the second, with its offset."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def _commit() -> str | None:
    """The commit of the source tree that the package is run from; None for an installed copy."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "log", "-1", "--format=%H", "--", str(folder.parent)]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
