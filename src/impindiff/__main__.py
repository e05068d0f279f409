"""`python -m impindiff` is the command `impindiff`."""

import os
import sys
from contextlib import suppress

if __name__ == "__main__":
    # Python has put the current folder first. It may be a stranger's run, with a `numpy.py`.
    with suppress(OSError):  # it was deleted
        if not sys.flags.safe_path and sys.path[0] == os.getcwd():
            del sys.path[0]
    from impindiff.cli import main

    main()
