"""The end of a command's process."""

import subprocess
import sys

WAITED_FOR = """
import os, signal, sys, threading, time
from impindiff.cli import main

def compile():
    threading.main_thread().join()
    for _ in range(100):
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)
    print("waited to the end")

threading.Thread(target=compile).start()
sys.argv = ["impindiff", "cases"]
main()
"""


def test_interrupted_while_a_thread_is_waited_for_it_ends_at_once():
    ended = subprocess.run(
        [sys.executable, "-c", WAITED_FOR], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 130
    assert "burgers-steady" in ended.stdout and "to the end" not in ended.stdout
    assert not ended.stderr
