"""What people see while a command works: progress on a terminal, nothing to disturb a pipe.

All of it goes to standard error; standard output is for results alone, whatever functions of the
user's own print.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress

import typer
from rich.console import Console
from rich.markup import escape

# No emoji: a message may well hold text such as 0:100:200.
console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def complain(kind: str, message: str) -> None:
    """Say what went wrong."""
    with suppress(OSError):  # the terminal may be gone
        console.print(f"[bold red]impindiff: {kind}:[/] {escape(message)}")


def say(text: str) -> None:
    """Name the part of the work that begins; only to a person at a terminal."""
    if console.is_terminal:
        console.print(f"[dim]{escape(text)} ...[/]")


def ask(question: str) -> bool:
    """Put a question to a person at a terminal; whoever cannot answer says no.

    Raises: KeyboardInterrupt where that is the answer.
    """
    if not (console.is_terminal and sys.stdin is not None and sys.stdin.isatty()):
        return False
    console.print(f"{question} [y/N]: ", end="", markup=False)
    # Bytes: what is typed need not be text. At the end of the input there are none.
    return sys.stdin.buffer.readline().strip().lower() in (b"y", b"yes")


_answers: list[str] = []


def answer(text: str) -> None:
    """Print a result on standard output, when the command is at its end."""
    _answers.append(text)


@contextmanager
def answers_alone() -> Iterator[None]:
    """Keep standard output for answers: what is printed inside goes to standard error.

    That of other programs and of libraries that do not know of `sys.stdout`, too.
    """
    _answers.clear()
    kept = None
    with suppress(OSError, ValueError):  # no file, as in tests
        if sys.stdout.fileno() == 1:
            sys.stdout.flush()
            kept = os.dup(1)
            os.dup2(sys.stderr.fileno(), 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)
        for text in _answers:
            typer.echo(text)
        _answers.clear()
