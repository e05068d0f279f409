"""A small mistake in the package: where, what, and which tests ought to see it."""

from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).parents[2] / "src" / "impindiff"


class Mutation(NamedTuple):
    """One mistake.

    Attributes:
        name: what is wrong.
        file: where, below the package.
        text: what stands there, exactly once.
        instead: what is put in its place.
        tests: what ought to see it, below `tests/`.
    """

    name: str
    file: str
    text: str
    instead: str
    tests: str

    @property
    def selection(self) -> list[str]:
        """The arguments of pytest."""
        files, _, expression = self.tests.partition(" -k ")
        return [f"tests/{file}" for file in files.split()] + ["-k", expression] * bool(expression)

    @property
    def misfit(self) -> str:
        """Why it cannot be tried; empty where it can."""
        file = SOURCE / self.file
        if not file.is_file():
            return f"{self.name}: there is no file {self.file}: say where its code stands now."
        count = file.read_text(encoding="utf-8").count(self.text)
        if count != 1:
            return (
                f"{self.name}: {self.text!r} stands {count} times in {self.file}: "
                "give a text that stands there once."
            )
        return ""

    def apply(self, package: Path) -> None:
        """Make the mistake in a copy of the package."""
        file = package / self.file
        content = file.read_text(encoding="utf-8")
        file.write_text(content.replace(self.text, self.instead), encoding="utf-8")
