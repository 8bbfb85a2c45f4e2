"""What both clients take from httpx, which is imported when a client is made."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from scouter.client._session import Answer, Failed, Request
from scouter.errors import ScouterError
from scouter.transport import HttpConfig

if TYPE_CHECKING:
    import httpx as _httpx

__all__ = ["arguments", "came", "checked", "failed", "httpx_module", "settings"]

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
            context.load_verify_locations(config.ca_file)
        settings["verify"] = context
    return settings


def checked(config: HttpConfig | None) -> HttpConfig:
    if config is None:
        return HttpConfig()
    if not isinstance(config, HttpConfig):
        raise TypeError(f"config must be a scouter.transport.HttpConfig, not {type(config).__name__}")
    return config


def came(answer: _httpx.Response) -> Answer:
    return Answer(answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, answer.content)


def failed(error: Exception) -> Failed:
    module = httpx_module()
    return Failed(error, was_sent=not isinstance(error, (module.ConnectError, module.ConnectTimeout, module.PoolTimeout)))


def arguments(request: Request) -> dict[str, Any]:
    return {
        # Names and passwords may hold any letter; the server reads UTF-8.
        "headers": [(name.encode(), value.encode()) for name, value in request.headers.items()],
        "content": request.content,
        "timeout": request.timeout_secs,
    }
