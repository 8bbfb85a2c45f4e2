"""What the context manager of `start_as_current_span` needs beyond Rust: decorated functions and ``async with``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any

from opentelemetry.trace import Span

from scouter._scouter import CurrentSpan

__all__ = ["decorated", "enter_async", "exit_async"]


def decorated(manager: CurrentSpan, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a function, or a coroutine function, in a span a call.

    Args:
        manager: What a fresh context manager is made from at each call.
        function: The function.

    Returns:
        The wrapped function.
    """
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def traced_coroutine(*args: Any, **kwargs: Any) -> Any:
            with manager._recreate_cm():
                return await function(*args, **kwargs)

        return traced_coroutine

    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        with manager._recreate_cm():
            return function(*args, **kwargs)

    return traced


async def enter_async(manager: CurrentSpan) -> Span:
    """Enters a manager in ``async with``."""
    return manager.__enter__()


async def exit_async(
    manager: CurrentSpan, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
) -> bool:
    """Leaves a manager in ``async with``."""
    return manager.__exit__(kind, error, traceback)
