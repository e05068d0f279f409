"""Runs code blocks one after the other in one process: python block_runner.py < requests.

A request is a line, the JSON of {"code": ..., "folder": ...}; so is an answer, {"printed": ...,
"error": null or the traceback}. Each block has names of its own, and works in its folder. JAX's
precision is put back in between; what was imported and compiled stays.
"""

import contextlib
import io
import json
import os
import sys
import traceback
import warnings

import jax


def run(code: str, folder: str) -> dict[str, str | None]:
    printed, error = io.StringIO(), None
    os.chdir(folder)
    x64 = jax.config.read("jax_enable_x64")
    try:
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            exec(compile(code, "<block>", "exec"), {"__name__": "__main__"})
    except Exception:
        error = traceback.format_exc()
    finally:
        jax.config.update("jax_enable_x64", x64)
    return {"printed": printed.getvalue(), "error": error}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)
