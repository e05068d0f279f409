"""Four processes that add to one store at the same time."""

import shutil
import sys

import numpy as np
from workshop import Row, Workshop

from impindiff import open_dataset

PROCESSES = 4
_GO_ON = """
import sys
from pathlib import Path
import numpy as np
from impindiff import InputError, open_dataset
from impindiff.runs import RunFolder, forecast_run_to
run, store, number = RunFolder(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
for _ in range(number):
    last = float(open_dataset(store, time="last")["time"][0])
    try:
        found = forecast_run_to(run, store, store, last + 0.2, 0.05, "last")
        print("added", found.times.size, flush=True)
    except InputError as error:
        print("refused", str(error).splitlines()[0], flush=True)
"""
_APPEND = """
import sys
from impindiff import InputError, open_dataset
from impindiff.data import append_dataset
store, number = sys.argv[2], int(sys.argv[3])
for _ in range(4 * number):
    last = open_dataset(store, time="last")
    try:
        append_dataset(last.assign_coords(time=last["time"] + 0.05), store)
        print("added", 1, flush=True)
    except InputError as error:
        print("refused", str(error).splitlines()[0], flush=True)
"""


def compete(shop: Workshop, number: int) -> list[Row]:
    """Have four processes go on with one store, so many times each; then add bare times."""
    run, _ = shop.whole
    rows = []
    for what, script in (("continue one store", _GO_ON), ("append to one store", _APPEND)):
        store = shop.folder / f"{what}.zarr"
        given = ("forecast", run, "--initial", shop.data, "--until", 0.5, "--out", store)
        shop.start(*given).communicate()
        before = open_dataset(store).sizes["time"]
        arguments = [sys.executable, "-c", script, str(run), str(store), str(number)]
        processes = [shop.popen(arguments) for _ in range(PROCESSES)]
        said = [process.communicate() for process in processes]
        lines = [line.split() for out, _ in said for line in out.splitlines()]
        added = [int(words[1]) for words in lines if words[0] == "added"]
        found = open_dataset(store)
        losses = [err[-1500:] for _, err in said if "Traceback" in err]
        if missing := before + sum(added) - found.sizes["time"]:
            losses.append(f"{missing} of {sum(added)} times that were reported as added")
        if not np.allclose(np.diff(found["time"]), 0.05):
            losses.append("the times are uneven")
        told = f"{sum(added)} times added, {len(lines) - len(added)} stopped with a message"
        rows.append(Row(f"{PROCESSES} processes {what}", len(added), losses, told))
        shutil.rmtree(store)
    return rows
