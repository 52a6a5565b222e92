"""`module:function` on the command line becomes the async function it names."""

from __future__ import annotations

import importlib
import inspect
import sys
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import did_you_mean

if TYPE_CHECKING:
    from types import TracebackType

    from .program import Function


class TargetError(Exception):
    """The name leads to no async function; says why."""


class TargetImportFailed(Exception):
    """The module is there and raised; `__cause__` is its error, with its own frames alone."""


def load_target(target: str) -> Function:
    """The function called `module:function`; the working directory may hold the module.

    Raises:
        TargetError: there is no such module or function, or it is not async.
        TargetImportFailed: the module exists and cannot be imported.
    """
    name, _, path = target.partition(":")
    if not name or not path or name.startswith("."):
        raise TargetError(f"{target!r} is not of the form module:function, such as app:main")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    module = _import(name)
    try:
        function: Any = attrgetter(path)(module)
    except AttributeError:
        known = [key for key, value in vars(module).items() if _is_async(value)]
        raise TargetError(f"{name} has no {path!r}. {did_you_mean(path, known)}") from None
    if not _is_async(function):
        raise TargetError(
            f"{target} is {function!r} and not an async function: "
            f"write `async def {path}(connections)`"
        )
    return function  # type: ignore[no-any-return]


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _failed(name, error) from error  # what is missing is something it imports
        raise TargetError(
            f"there is no module {error.name!r}; looked in {Path.cwd()} and on the path"
        ) from None
    except Exception as error:
        raise _failed(name, error) from error


def _failed(name: str, error: Exception) -> TargetImportFailed:
    error.__traceback__ = _own_frames(error.__traceback__)
    return TargetImportFailed(f"importing {name} failed")


def _own_frames(trace: TracebackType | None) -> TracebackType | None:
    """Without our frames and those of the import system, which come first."""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file not in {__file__, importlib.__file__} and not file.startswith("<frozen importlib"):
            return trace
        trace = trace.tb_next
    return None


def _is_async(value: Any) -> bool:
    return inspect.iscoroutinefunction(value) or (
        not isinstance(value, type)
        and inspect.iscoroutinefunction(getattr(type(value), "__call__", None))  # noqa: B004
    )
