"""The user's own Python that a config names: files beside it, loaded without leaving a trace.

Imports in such a file find its neighbours, as if their folder were the first of Python's path, and
no others do: two files of one name may be in use at once, nothing is added to `sys.path` or stays
in `sys.modules`, and no compiled file is written. That holds for imports within functions, too,
whenever these are called: a law may be evaluated long after the system was built. What was read, or
may yet be imported, is remembered, so that a run can keep it. In a run nothing is executed but what
it was begun with: a file is compared with its hash before it is compiled, and others are not found.
"""

import builtins
import hashlib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, final

from impindiff._errors import InputError, text_of
from impindiff._files import read_whole
from impindiff.config._imports import imported_names, taken

# Functions that this package has for configs; they are installed with it, and no run keeps them.
_OF_CASES = "impindiff.cases."
# These stay what they are, whatever lies beside a config.
_NOT_THE_USERS = sys.stdlib_module_names | {"impindiff"}


@final
class Code:
    """The Python files in a folder, and what was read of them.

    Any two are equal: what a config says does not depend on where it lies.

    Args:
        folder: where the config lies.
        known: SHA-256 of a run's files by their paths; without it, whatever lies here is used.
    """

    def __init__(self, folder: Path, known: Mapping[str, str] | None = None) -> None:
        self.folder = folder.absolute()
        self._known = known
        self.files: dict[str, bytes] = {}
        self._modules: dict[str, ModuleType] = {}
        self._is_at_work = False

    def __eq__(self, other: object) -> bool:
        """See the class."""
        return isinstance(other, Code)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def parameters(self, key: str, name: str) -> tuple[str, ...]:
        """Names of a function's parameters.

        Args:
            key: the config's key that names the function, for messages.
            name: `module:function`.

        Raises: InputError for a file or a function that there is not, or a file that fails.
        """
        return tuple(_signature(self._function(key, name)))

    def call(self, key: str, name: str, given: Mapping[str, Any]) -> Any:
        """Call a function with what its parameters name.

        Args:
            key: the config's key that names the function.
            name: `module:function`.
            given: what may be named.

        Raises: InputError as for `parameters`, for a parameter that names nothing, and with the
            message and line of whatever the function raises.
        """
        function = self._function(key, name)
        parameters = _signature(function)
        named = [p for p in parameters.values() if p.name in given and p.kind != p.POSITIONAL_ONLY]
        for p in parameters.values():
            needed = p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
            if needed and p not in named:
                raise InputError(
                    f"{key}: {name} has the parameter {p.name!r}; what it may name are "
                    f"{', '.join(given)}. Give it a default value, or leave it out."
                )
        with self._at_work(key, name):
            return function(**{p.name: given[p.name] for p in named})

    def read(self, key: str, names: list[str]) -> None:
        """Remember further files, that functions read.

        Raises: InputError for a file that there is not, or that cannot be read.
        """
        for name in names:
            try:
                content = read_whole(self.folder / name)
            except OSError as error:
                reason = error.strerror or error
                raise InputError(f"{key}: {self.folder / name}: {reason}.") from None
            self._check(Path(name).as_posix(), content)
            self.files[name] = content

    def check_kept(self) -> None:
        """Refuse files of a run that are not as they were when it was begun.

        Raises: InputError.
        """
        for name in self._known or ():
            file = self.folder / name
            self._check(name, read_whole(file) if file.is_file() else None)

    def _check(self, name: str, content: bytes | None) -> None:
        """Refuse a file of a run that it was not begun with; None stands for one that is gone."""
        if self._known is None:
            return
        path = self.folder / name
        if name not in self._known:
            raise InputError(
                f"{path}: provenance.json holds no hash of it, so that nobody knows whether it is "
                "what the run was trained with. Put provenance.json back as it was, or train "
                "another run."
            )
        if content is None or hashlib.sha256(content).hexdigest() != self._known[name]:
            what = "is missing" if content is None else "was changed"
            raise InputError(
                f"{path} {what} since the run was begun, and what was learned belongs to the "
                "file as it was. Put it back; to change the system, train another run."
            )

    def _function(self, key: str, name: str) -> Any:
        module_name, _, function_name = name.partition(":")
        module = self._module(key, name, module_name)
        function = getattr(module, function_name, None)
        if not callable(function):
            own = [
                each
                for each, value in vars(module).items()
                if callable(value) and getattr(value, "__module__", "") == module_name
            ]
            near = get_close_matches(function_name, own, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(own) or 'none'}."
            raise InputError(
                f"{key}: there is no function {function_name!r} in {module.__file__}; {hint}"
            )
        return function

    def _module(self, key: str, name: str, module: str) -> ModuleType:
        if module.startswith(_OF_CASES):
            try:
                return importlib.import_module(module)
            except ModuleNotFoundError:
                raise InputError(
                    f"{key} is {name!r}, but impindiff has no module {module!r}: `impindiff cases` "
                    "lists the cases."
                ) from None
        if module not in self._modules:
            self._check_exists(key, name, module)
            with self._at_work(key, name):
                importlib.import_module(module)
        return self._modules[module]

    def _check_exists(self, key: str, name: str, module: str) -> None:
        first = module.partition(".")[0]
        if first in _NOT_THE_USERS:
            raise InputError(
                f"{key} is {name!r}, but {first!r} is a module of Python's or impindiff's own: "
                f"rename the file. Functions of the cases begin with {_OF_CASES!r}."
            )
        if self.file_of(module) is None:
            if file := self._file_here(module):
                self._check(self.name_of(file), file.read_bytes())
            path = module.replace(".", "/")
            inside = ", with an __init__.py in each folder" if "/" in path else ""
            raise InputError(
                f"{key} is {name!r}, but there is no {path}.py in {self.folder}, where the config "
                f"lies{inside}."
            )

    def file_of(self, module: str) -> Path | None:
        """The file of a module, if it lies here and, in a run, belongs to it."""
        file = self._file_here(module)
        is_ours = file and (self._known is None or self.name_of(file) in self._known)
        return file if is_ours else None

    def name_of(self, file: Path) -> str:
        """The path of a file from the folder."""
        return file.relative_to(self.folder).as_posix()

    def _file_here(self, module: str) -> Path | None:
        path = self.folder.joinpath(*module.split("."))
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if file.is_file():
                return file
        return None

    @contextmanager
    def _at_work(self, key: str, name: str) -> Iterator[None]:
        """Let imports find what lies here, and name file and line of what goes wrong."""
        process = os.getpid()
        with self._within_reach():
            try:
                yield
            except KeyboardInterrupt:
                raise
            # Also sys.exit: the command would end as if all had been done.
            except BaseException as error:
                raise InputError(f"{key}: {name}: {self._message(error)}") from error
            finally:
                if os.getpid() != process:
                    os._exit(1)  # a fork, which would go on as a second command of the same files

    @contextmanager
    def _within_reach(self) -> Iterator[None]:
        """Let imports find what lies here."""
        if self._is_at_work:
            yield
            return
        finder, ours = _Finder(self), self._names()
        aside = taken(ours)
        sys.modules.update(self._modules)
        sys.meta_path.insert(0, finder)
        self._is_at_work = True
        try:
            yield
        finally:
            self._is_at_work = False
            sys.meta_path.remove(finder)
            self._modules = taken(ours)
            sys.modules.update(aside)

    def importing(self, *arguments: Any, **named: Any) -> Any:
        """What an import statement does in a file here, whenever it is reached."""
        with self._within_reach():
            return builtins.__import__(*arguments, **named)

    def remember(self, module: str, source: bytes, file: Path) -> None:
        """Remember the source of a module, and of all here that it may import.

        Raises: InputError for a file of a run that it was not begun with.
        """
        self._check(self.name_of(file), source)
        self.files[self.name_of(file)] = source
        is_package = file.name == "__init__.py"
        for name in imported_names(source, module, is_package=is_package):
            there = None if name.partition(".")[0] in _NOT_THE_USERS else self.file_of(name)
            if there and self.name_of(there) not in self.files:
                self.remember(name, there.read_bytes(), there)

    def _names(self) -> set[str]:
        """Names of the modules and packages that lie here, and in a run belong to it."""
        found = {path.stem for path in self.folder.glob("*.py")}
        found |= {path.parent.name for path in self.folder.glob("*/__init__.py")}
        return {name for name in found - _NOT_THE_USERS if self.file_of(name)}

    def _message(self, error: BaseException) -> str:
        """What an error says, and the last line of a file here that led to it."""
        frames = traceback.extract_tb(error.__traceback__)
        places = [(Path(frame.filename), frame.lineno) for frame in frames]
        if isinstance(error, SyntaxError) and error.filename:
            places.append((Path(error.filename), error.lineno))
        here = [place for place in places if place[0].is_relative_to(self.folder)]
        where = f"{here[-1][0]}, line {here[-1][1]}: " if here else ""
        said = error.msg if isinstance(error, SyntaxError) else text_of(error)
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        return f"{where}{kind}{said}"


class _Finder(MetaPathFinder):
    """Finds the modules of one folder."""

    def __init__(self, code: Code) -> None:
        self._code = code

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if fullname.partition(".")[0] in _NOT_THE_USERS:
            return None
        file = self._code.file_of(fullname)
        if file is None:
            return None
        loader = _Loader(fullname, str(file), self._code)
        inside = [str(file.parent)] if file.name == "__init__.py" else None
        return spec_from_file_location(
            fullname, file, loader=loader, submodule_search_locations=inside
        )


class _Loader(SourceFileLoader):
    """Compiles the source anew each time, and remembers it."""

    def __init__(self, fullname: str, path: str, code: Code) -> None:
        super().__init__(fullname, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        """The compiled source; neither read from a compiled file nor written to one."""
        source = self.get_data(self.path)
        self._code.remember(fullname, source, Path(self.path))
        return self.source_to_code(source, self.path)

    def exec_module(self, module: ModuleType) -> None:
        """Run it, with an import of its own that its functions keep."""
        module.__dict__["__builtins__"] = vars(builtins) | {"__import__": self._code.importing}
        super().exec_module(module)


def _signature(function: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
