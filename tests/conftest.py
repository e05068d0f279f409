"""What all tests share: double precision, data, and shapes and types checked on request."""

import gc
import importlib.metadata
import os
import signal
from pathlib import Path

# Before JAX starts: tests are about results, which have to be the same on every machine.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile much and compute little: no optimisation, and the older code generator, which takes
# half the time. From JAX 0.12 on there is none, and a flag that XLA does not know ends the process.
# Inherited by the commands that tests start.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0"
    + " --xla_cpu_use_fusion_emitters=false"
    * importlib.metadata.version("jaxlib").startswith(("0.10.", "0.11.")),
)

# Workers share the cores, and threads of linear algebra that wait for one another take ten times
# as long as none. Before NumPy is imported, here and in the commands that tests start.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Nobody reads where in the source each operation of a compiled program comes from.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")

# Workers, and what they start, compile many of the same small functions: each once is enough.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "compiled")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax
import jaxtyping
import pytest

# By configuration, not environment: commands that a test starts keep their own default precision.
jax.config.update("jax_enable_x64", True)

# Every annotated shape and type, in `make test-all`: it takes two fifths of the time. Before
# anything imports the package.
if os.environ.get("CHECK_TYPES", "0") != "0":
    _hook = jaxtyping.install_import_hook("impindiff", "runtime_types.check")

_ROOT = Path(__file__).parents[1]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of many cases all but two are thorough; and what takes longest goes first.

    At the end it would leave all workers but one with nothing.
    """
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("many") and not item.get_closest_marker("slow"):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for alike in cases.values():
        for item in alike[1:-1]:
            item.add_marker("thorough")
    items.sort(key=lambda item: item.name != "test_code_block_runs[README.md-1]")


def pytest_collection_finish():
    """What is imported stays to the end: no collection of garbage need go through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _precision_is_restored():
    """A command run within a test may choose single precision; the next test gets double again."""
    yield
    jax.config.update("jax_enable_x64", True)


@pytest.fixture(scope="module", autouse=True)
def _compiled_functions_are_dropped():
    """Linux allows a process 65,530 memory maps: all that the suite compiles takes more."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session", autouse=True)
def _interrupts_are_heard():
    """A job in the background of a shell may be told to ignore them, and so may what it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    else:
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The data made by the reference code, beside the repository; a test without it skips."""
    folder = _ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the reference data are not on this machine ({folder})")
    return folder
