"""What a forked child has to renew, and how children of multiprocessing deliver their last spans.

Threads do not survive a fork, so the Rust pipelines of the parent are dead in the child until they are told.
Children of `multiprocessing` leave through ``os._exit``, for which `atexit` runs nothing; the finalizers of
multiprocessing are run there instead. Workers of Celery leave through it as well, after a signal of Celery's.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable
from typing import Protocol

__all__ = ["at_child_exit", "renew_in_child"]


class _Renewable(Protocol):
    def _after_fork_in_child(self) -> None: ...


class _Marker:
    """Something for multiprocessing to hold on to: its registry of fork hooks is keyed by an object."""


_renewed: weakref.WeakSet[_Renewable] = weakref.WeakSet()
_exit_functions: list[Callable[[], None]] = []
_marker = _Marker()
_hooked_into_multiprocessing = False
_hooked_into_celery = False


def renew_in_child(target: _Renewable) -> None:
    """Calls `target._after_fork_in_child` in every forked child, as long as `target` lives.

    Args:
        target: A provider, processor or exporter.
    """
    _renewed.add(target)


def at_child_exit(function: Callable[[], None]) -> None:
    """Calls `function` when a child of `multiprocessing`, this process or one forked from it, ends.

    Args:
        function: Must return within a bounded time, and may be called more than once.
    """
    if function not in _exit_functions:
        _exit_functions.append(function)
    # A child of a fork server comes here while it imports the main module, before multiprocessing runs its fork hooks.
    _hook_into_multiprocessing()
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        _finalize_at_exit(_marker)


def _run_exit_functions() -> None:
    for function in _exit_functions:
        function()


def _finalize_at_exit(_: object) -> None:
    from multiprocessing.util import Finalize

    # Below zero: after the finalizers of others, which may still trace, and after this child has joined its own children.
    Finalize(None, _run_exit_functions, exitpriority=-10)


def _hook_into_multiprocessing() -> None:
    # Only a process that has imported multiprocessing forks for it. The finalizer must be made after multiprocessing has
    # cleared those of the parent, which it does before it runs the hooks registered with it.
    global _hooked_into_multiprocessing
    if "multiprocessing.util" in sys.modules and not _hooked_into_multiprocessing:
        from multiprocessing.util import register_after_fork

        register_after_fork(_marker, _finalize_at_exit)
        _hooked_into_multiprocessing = True


def _hook_into_celery() -> None:
    global _hooked_into_celery
    signals = sys.modules.get("celery.signals")
    if signals is not None and _exit_functions and not _hooked_into_celery:
        signals.worker_process_shutdown.connect(_run_exit_functions_of_worker, weak=False)
        _hooked_into_celery = True


def _run_exit_functions_of_worker(**_: object) -> None:
    _run_exit_functions()


def _after_fork_in_child() -> None:
    for target in list(_renewed):
        target._after_fork_in_child()
    _hook_into_multiprocessing()
    _hook_into_celery()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
