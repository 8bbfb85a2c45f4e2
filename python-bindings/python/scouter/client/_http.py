"""What both clients take from httpx, which is imported when a client is made."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from scouter.client._session import Answer, Failed, Request
from scouter.errors import ConfigError, ScouterError
from scouter.transport import HttpConfig

if TYPE_CHECKING:
    import httpx as _httpx

__all__ = [
    "arguments",
    "came",
    "checked",
    "content_by",
    "failed",
    "failures",
    "httpx_module",
    "left",
    "settings",
    "time_limits",
]

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def httpx_module() -> Any:
    try:
        import httpx
    except ImportError as error:
        raise ScouterError("ScouterClient needs httpx: pip install 'scouter-otel[client]'") from error
    return httpx


def settings(config: HttpConfig) -> dict[str, Any]:
    parts = urlsplit(config.server_uri)
    settings: dict[str, Any] = {"follow_redirects": False, "trust_env": parts.hostname not in _LOOPBACK}
    if parts.scheme == "https":
        context = ssl.create_default_context()
        if config.ca_file is not None:
            try:
                context.load_verify_locations(config.ca_file)
            except (OSError, ValueError) as error:
                raise ConfigError(f"invalid HttpConfig: cannot read ca_file {config.ca_file!r}: {error}") from error
        settings["verify"] = context
    return settings


def checked(config: HttpConfig | None) -> HttpConfig:
    if config is None:
        return HttpConfig()
    if not isinstance(config, HttpConfig):
        raise TypeError(f"config must be a scouter.transport.HttpConfig, not {type(config).__name__}")
    return config


def came(answer: _httpx.Response, content: bytes) -> Answer:
    return Answer(answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, content)


def failures() -> tuple[type[Exception], ...]:
    """What httpx raises where nothing comes back, or nothing that is HTTP."""
    module = httpx_module()
    return (module.RequestError, module.InvalidURL)


def failed(error: Exception) -> Failed:
    module = httpx_module()
    return Failed(
        error, was_sent=not isinstance(error, (module.ConnectError, module.ConnectTimeout, module.PoolTimeout, module.InvalidURL))
    )


def left(deadline: float) -> float:
    """Seconds until then. Never none: for clocks zero is no limit, or an error."""
    return max(deadline - time.monotonic(), 0.001)


def content_by(deadline: float, answer: _httpx.Response) -> bytes:
    """The body of an answer, which may come in drops: each is in time by itself."""
    parts: list[bytes] = []
    for part in answer.iter_bytes():
        parts.append(part)
        if time.monotonic() >= deadline:
            raise httpx_module().ReadTimeout("the answer went on after the deadline")
    return b"".join(parts)


def arguments(request: Request) -> dict[str, Any]:
    return {
        # Names and passwords may hold any letter; the server reads UTF-8.
        "headers": [(name.encode(), value.encode()) for name, value in request.headers.items()],
        "content": request.content,
    }


def time_limits(deadline: float) -> dict[str, Any]:
    """Httpx gives each step of a request the whole of its timeout; so each step is given what is left as it begins."""
    steps: dict[str, float] = {}

    def begins(_event: str, _facts: object) -> None:
        steps.update(dict.fromkeys(("connect", "pool", "read", "write"), left(deadline)))

    begins("", None)
    return {"timeout": steps, "trace": begins}
