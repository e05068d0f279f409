"""Config files and the objects they describe."""

from impindiff.config._build import (
    build_grid,
    build_observations,
    build_options,
    build_penalties,
    build_stages,
    build_system,
    describe_grid,
    known_grid,
    with_memory,
)
from impindiff.config._load import (
    changed,
    config_sha256,
    dump_config,
    load_config,
    parse_config,
)
from impindiff.config._own import asks_for_grid
from impindiff.config._schema import Config
from impindiff.config._solving import (
    ALONG_LINES,
    DIRECT,
    EXPLICIT,
    IMPLICIT,
    KRYLOV,
    PRECONDITIONERS,
)
from impindiff.config._steppers import build_stepper
from impindiff.config._training import OPTIMISERS, StageTable

__all__ = [
    "ALONG_LINES",
    "DIRECT",
    "EXPLICIT",
    "IMPLICIT",
    "KRYLOV",
    "OPTIMISERS",
    "PRECONDITIONERS",
    "StageTable",
    "with_memory",
    "Config",
    "asks_for_grid",
    "build_grid",
    "build_options",
    "build_observations",
    "build_penalties",
    "build_stages",
    "build_stepper",
    "build_system",
    "changed",
    "config_sha256",
    "describe_grid",
    "dump_config",
    "known_grid",
    "load_config",
    "parse_config",
]
