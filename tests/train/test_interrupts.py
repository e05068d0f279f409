"""Interrupts wait until they are asked for, unless one comes after another."""

import signal
import threading

import pytest

from impindiff.train._interrupts import Interrupts


def test_an_interrupt_waits_until_it_is_delivered():
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        interrupts.deliver()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupts.deliver()
        interrupts.deliver()
    assert signal.getsignal(signal.SIGINT) is before


def test_what_was_not_delivered_is_at_the_end():
    with pytest.raises(KeyboardInterrupt), Interrupts():
        signal.raise_signal(signal.SIGINT)


def test_an_error_goes_before_an_interrupt():
    with pytest.raises(ZeroDivisionError), Interrupts():
        signal.raise_signal(signal.SIGINT)
        raise ZeroDivisionError


def test_a_second_interrupt_does_not_wait():
    with pytest.raises(KeyboardInterrupt), Interrupts():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second was held back, too")


def test_while_something_is_saved_none_is_delivered():
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        with interrupts.held_back():
            for _ in range(3):
                signal.raise_signal(signal.SIGINT)
        saved = True
        interrupts.deliver()
        pytest.fail("it was lost")
    assert saved


@pytest.mark.parametrize("name", ["SIGHUP", "SIGXCPU", "SIGUSR1"])
def test_other_requests_wait_as_well(name: str):
    number = getattr(signal, name)
    before = signal.signal(number, signal.default_int_handler)
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(number)
            with pytest.raises(KeyboardInterrupt):
                interrupts.deliver()
    finally:
        signal.signal(number, before)


def test_a_request_to_terminate_waits_where_it_is_handled(monkeypatch: pytest.MonkeyPatch):
    class Asked(Exception):
        pass

    def handle(number, frame):
        raise Asked

    # Another test in this process may have left a handler of its own.
    before = signal.signal(signal.SIGTERM, handle)
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGTERM)
            with pytest.raises(Asked):
                interrupts.deliver()
        assert signal.getsignal(signal.SIGTERM) is handle
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with Interrupts():
            own = signal.getsignal(signal.SIGTERM)
            assert own is signal.SIG_DFL, "the system's own handling stays"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_do_without():
    seen = []

    def work() -> None:
        with Interrupts() as interrupts:
            interrupts.deliver()
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
