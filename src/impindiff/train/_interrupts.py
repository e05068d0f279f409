"""Interrupts wait for the end of an epoch, and never disturb a checkpoint.

Raised wherever Python happens to be, an interrupt may fall into the writing of a checkpoint, or
into a callback that swallows it: JAX has one in the garbage collector.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self, final

from impindiff._errors import REQUESTS


@final
class Interrupts:
    """Holds back Ctrl-C, and other requests to end where there is a handler for them.

    A context: what is still held back at its end is delivered then. A second interrupt is not held
    back, unless something is being saved.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._held: int | None = None
        self._is_saving = False

    def __enter__(self) -> Self:
        # Python allows handlers to be set in the main thread only, and calls them there only.
        if threading.current_thread() is threading.main_thread():
            for number in REQUESTS:
                handler = signal.getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
                    signal.signal(number, self._hold)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if error is None:
            self.deliver()

    def deliver(self) -> None:
        """Call the handler of what was held back, if anything was: by default KeyboardInterrupt."""
        number, self._held = self._held, None
        if number is not None:
            self._handlers[number](number, None)

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Hold back all interrupts, however many, while something is saved."""
        self._is_saving = True
        try:
            yield
        finally:
            self._is_saving = False

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if self._held is not None and not self._is_saving:
            self._handlers[number](number, frame)
        self._held = number
