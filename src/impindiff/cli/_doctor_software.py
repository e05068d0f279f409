"""Checks of what is installed: Python, the packages, and whether JAX computes, and on what.

Imports stand inside the checks: what is broken here must not keep the doctor from being imported.
"""

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from typing import Any

from impindiff.cli._doctor_finding import GIB, Finding

_SLOW_COMPILE = 5.0  # seconds; about 0.1 is usual

# Where the module is not named like the distribution.
_MODULES = {"orbax-checkpoint": "orbax.checkpoint"}


def collect_versions() -> dict[str, str | None]:
    """The versions of Python, impindiff and all it requires; None for what is missing."""
    try:
        names = sorted(requirement.name for requirement in _requirements())
    except Exception:
        names = ["jax"]
    versions = {name: _version(name) for name in ("impindiff", *names, "jaxlib")}
    return {"python": platform.python_version(), **versions}


def check_python() -> Iterator[Finding]:
    """Whether Python is one that the installed distribution admits."""
    from packaging.specifiers import SpecifierSet

    found = platform.python_version()
    required = importlib.metadata.metadata("impindiff")["Requires-Python"] or ""
    if SpecifierSet(required).contains(found, prereleases=True):
        yield Finding("python", "ok", f"{found} (required: {required})")
    else:
        remedy = "Make the environment again: make clean install PYTHON=python3.11"
        yield Finding("python", "problem", f"{found}, but {required} is required", remedy)


def check_packages() -> Iterator[Finding]:
    """Whether what the installed distribution requires is there, imports, and is supported."""
    requirements = _requirements()
    num_good = 0
    for requirement in requirements:
        finding = _look_at_package(requirement)
        if finding.status == "ok":
            num_good += 1
        else:
            yield finding
    found = f"{num_good} of {len(requirements)} are there in supported versions"
    yield Finding("packages", "ok", found)


def _look_at_package(requirement: Any) -> Finding:
    name, supported = requirement.name, requirement.specifier
    found = _version(name)
    remedy = f'{sys.executable} -m pip install "{name}{supported}"'
    if found is None:
        return Finding("packages", "problem", f"{name} is not installed", remedy)
    if not supported.contains(found, prereleases=True):
        # The rest may get by with a neighbouring version; the gradient rules lean on JAX's.
        status = "problem" if name == "jax" else "warning"
        return Finding("packages", status, f"{name} is {found}, supported is {supported}", remedy)
    try:
        importlib.import_module(_MODULES.get(name) or name.replace("-", "_"))
    except Exception as error:
        remedy = f"{sys.executable} -m pip install --force-reinstall {name}=={found}"
        return Finding("packages", "problem", f"{name}: {describe(error)}", remedy)
    return Finding("packages", "ok", f"{name} {found}")


def describe(error: Exception) -> str:
    """An error in one line."""
    first_line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first_line}".rstrip(": ")


def check_numerics() -> Iterator[Finding]:
    """Which devices JAX sees, whether they know double precision, and whether a gradient is right.

    One check, so that a JAX that cannot be imported is one problem and not three.
    """
    import jax

    asked_for = os.environ.get("JAX_PLATFORMS")
    try:
        jax.default_backend()
    except Exception as error:
        found = f"JAX starts none: {describe(error)}"
        if asked_for:
            found = f"JAX starts none of JAX_PLATFORMS={asked_for}: {describe(error)}"
        remedy = "Set JAX_PLATFORMS=cpu for the processor, or unset it"
        yield Finding("devices", "problem", found, remedy)
        return
    yield _look_at_devices(jax)
    yield _look_at_precision(jax)
    yield _look_at_gradient(jax)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requirements() -> list[Any]:
    """What the installed distribution requires, its extras aside."""
    from packaging.requirements import Requirement

    required = map(Requirement, importlib.metadata.requires("impindiff") or [])
    return [one for one in required if not one.marker or one.marker.evaluate({"extra": ""})]


def _look_at_devices(jax: Any) -> Finding:
    backend = jax.default_backend()
    cores = f"{_num_cores()} processor cores"
    if backend != "cpu":
        names = []
        for device in jax.devices():
            limit = (device.memory_stats() or {}).get("bytes_limit")
            size = f", {limit / GIB:.1f} GiB for JAX" if limit else ""
            names.append(f"{device.device_kind}{size}")
        return Finding("devices", "ok", f"{backend}: {'; '.join(names)}; {cores}")
    if not os.environ.get("JAX_PLATFORMS") and shutil.which("nvidia-smi"):
        remedy = f'{sys.executable} -m pip install -e ".[cuda]", in the repository'
        return Finding("devices", "warning", f"{cores}; an NVIDIA GPU lies idle", remedy)
    return Finding("devices", "ok", cores)


def _num_cores() -> int:
    # What this process may use, which in a container or a batch job is less than there are.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _look_at_precision(jax: Any) -> Finding:
    with jax.enable_x64(True):
        is_double = float(jax.numpy.float64(1) + jax.numpy.float64(1e-12)) != 1.0
    if is_double:
        return Finding("precision", "ok", "single and double")
    remedy = "Where double precision is asked for, set JAX_PLATFORMS=cpu"
    return Finding("precision", "warning", "single only", remedy)


def _look_at_gradient(jax: Any) -> Finding:
    jnp = jax.numpy
    points = jnp.linspace(0.0, 1.0, 64)
    start = time.perf_counter()
    gradient = jax.jit(jax.grad(lambda a: jnp.sum(jnp.sin(a * points)))).lower(2.0).compile()
    seconds = time.perf_counter() - start
    error = abs(float(gradient(2.0) - jnp.sum(points * jnp.cos(2.0 * points))))
    if not error < 1e-3:
        found = f"a compiled gradient is wrong by {error:.1e}"
        return Finding("gradient", "problem", found, "Install jax and jaxlib again.")
    found = f"correct; compiled in {seconds:.2f} s"
    if seconds > _SLOW_COMPILE:
        remedy = "Usual is 0.1 s: see what else this machine is busy with."
        return Finding("gradient", "warning", found, remedy)
    return Finding("gradient", "ok", found)
