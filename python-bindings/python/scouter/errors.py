"""What this package raises, by kind.

Configuration faults are raised at once, by constructors and `init_tracer`. After that nothing is raised into the
traced program: faults of delivery are logged to the logger ``scouter`` and counted in `scouter.tracing.stats`.
"""

from __future__ import annotations

__all__ = [
    "AuthenticationError",
    "ConfigError",
    "ExportError",
    "MissingQueueError",
    "RejectedError",
    "ScouterError",
    "UnavailableError",
]


class ScouterError(Exception):
    """Base of every exception of this package."""


class ConfigError(ScouterError, ValueError):
    """A setting is wrong. The message names every faulty setting and what was expected of it."""


class ExportError(ScouterError):
    """Spans could not be delivered."""


class AuthenticationError(ExportError):
    """The server refused the credentials; trying again with the same ones is in vain."""


class UnavailableError(ExportError):
    """The server was not reached, or asked to come back later, until the deadline passed."""


class RejectedError(ExportError):
    """The server took the request and refused it, or spans of it, for good."""


class MissingQueueError(ScouterError, KeyError, RuntimeError):
    """There is no queue of that alias. The message names those there are."""

    def __str__(self) -> str:
        """The message as it is; a `KeyError` would show it with quotes."""
        return str(self.args[0])
