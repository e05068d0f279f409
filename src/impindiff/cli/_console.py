"""What people see while a command works: progress on a terminal, nothing to disturb a pipe.

Everything here goes to standard error; standard output is for results.
"""

from contextlib import suppress

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
