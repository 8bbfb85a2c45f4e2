"""What this package raises, by kind.

Configuration faults are raised at once, by constructors and `init_tracer`. After that nothing is raised into the
traced program: faults of delivery are logged to the logger ``scouter`` and counted in `scouter.tracing.stats`.
`scouter.ScouterClient`, which is asked for answers, raises when there is none.
"""

from __future__ import annotations

__all__ = [
    "AuthenticationError",
    "ConfigError",
    "ExportError",
    "MissingQueueError",
    "NotFoundError",
    "PermissionDeniedError",
    "RejectedError",
    "RequestError",
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


class RequestError(ScouterError):
    """The server answered a question with an error. The message says what to do about it.

    Args:
        message: What the server said.
        status: The HTTP status.
        code: The kind of error, such as ``INVALID_ARGUMENT``.
        suggested_action: What the server suggests.
    """

    def __init__(self, message: str, *, status: int = 0, code: str = "", suggested_action: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.suggested_action = suggested_action


class PermissionDeniedError(RequestError):
    """The user may not ask this."""


class NotFoundError(RequestError, LookupError):
    """What was asked for by its name does not exist."""


class MissingQueueError(ScouterError, KeyError, RuntimeError):
    """There is no queue of that alias. The message names those there are."""

    def __str__(self) -> str:
        """The message as it is; a `KeyError` would show it with quotes."""
        return str(self.args[0])
