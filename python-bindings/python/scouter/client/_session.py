"""The talk with a server without the network: what to send next, given what came.

`Session.steps` is a generator that yields what its driver is to do (send a request, pause, see to a token) and gets what came of it,
so that the blocking and the asynchronous client are the same in all but how they wait.

Invariants: one deadline covers logging in, all attempts and the pauses between; a refused token costs one login and one replay; a request
that may have been taken is sent again only if taking it twice changes nothing.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

from scouter.errors import AuthenticationError, NotFoundError, PermissionDeniedError, RequestError, ScouterError, UnavailableError
from scouter.transport import HttpConfig

__all__ = ["Answer", "Authenticate", "Call", "Failed", "Pause", "Request", "Session", "Step", "quoted"]

_T = TypeVar("_T")

_MAX_PAUSE_SECS = 5.0
_CONNECT_ATTEMPTS = 3
_FAREWELL_SECS = 1.0
_RENEW_BEFORE_SECS = 60.0
"""A token is renewed this long before its end, or when a tenth of its life is left where that is shorter."""


@dataclass(frozen=True)
class Call(Generic[_T]):
    """A question and how its answer is read."""

    method: str
    path: str
    read: Callable[[Answer], _T]
    parameters: Sequence[tuple[str, str]] = ()
    body: object = None
    accept: str = "application/json"
    is_repeatable: bool = True


@dataclass(frozen=True)
class Request:
    """What is to be sent."""

    method: str
    target: str
    headers: Mapping[str, str]
    content: bytes | None
    deadline: float
    """On the clock of `time.monotonic`; the whole answer is here by then, or none; the blocking client asks between reads."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """The body."""
        return json.loads(self.content)


@dataclass(frozen=True)
class Failed:
    """Nothing came back."""

    error: Exception
    was_sent: bool


@dataclass(frozen=True)
class Pause:
    """Wait so long."""

    seconds: float


@dataclass(frozen=True)
class Authenticate:
    """See to it that the token is another than this, by the deadline; one driver at a time."""

    stale: str | None
    deadline: float
    is_refused: bool = False
    """Whether the server does not take it any more, so that it cannot be renewed by it."""


@dataclass(frozen=True)
class _Held:
    """A token and its times, which change together: threads share them."""

    token: str
    renews_at: float
    ends_at: float


Step = Request | Pause | Authenticate
Came = Answer | Failed | None


def _issued(answer: Answer) -> _Held:
    """Reads the answer to a login or a renewal."""
    issued = answer.json()
    token, life = issued["token"], float(issued.get("expires_in_seconds", 3600))
    if not isinstance(token, str) or not token or not math.isfinite(life):
        raise ValueError("there is no token in it")
    ends_at = time.monotonic() + life
    return _Held(token, ends_at - min(_RENEW_BEFORE_SECS, life / 10), ends_at)


def quoted(text: str) -> str:
    """A part of a path."""
    return quote(text, safe="")


class Session:
    """Who asks, with which token. Shared by all threads or tasks of a client."""

    def __init__(self, config: HttpConfig) -> None:
        self.config = config
        self._is_given = config._auth_token != ""
        self._held: _Held | None = _Held(config._auth_token, math.inf, math.inf) if self._is_given else None

    def steps(self, call: Call[_T]) -> Generator[Step, Came, _T]:
        """Asks a question.

        Args:
            call: The question.

        Yields:
            What to do next.

        Returns:
            What is answered.

        Raises:
            ScouterError: By kind, see `scouter.errors`.
        """
        deadline = time.monotonic() + self.config.timeout_secs
        refused = False
        while True:
            held = self._held
            if held is None or time.monotonic() >= held.renews_at:
                yield Authenticate(None if held is None else held.token, deadline)
                held = self._held
            token = "" if held is None else held.token
            answer = yield from self._attempts(call, {"authorization": f"Bearer {token}"}, deadline)
            if answer.status == 401 and not self._is_given and not refused:
                refused = True
                yield Authenticate(token, deadline, is_refused=True)
                continue
            if 200 <= answer.status < 300:
                return self._read(call, answer)
            raise self._error(call, answer)

    def authentication(self, wanted: Authenticate) -> Generator[Step, Came, None]:
        """Gets a new token, by the old one while that holds, else by logging in.

        Args:
            wanted: The token that will not do any more, and the deadline.

        Yields:
            What to do next.

        Raises:
            AuthenticationError: If name and password are refused.
        """
        held = self._held
        if held is not None and held.token != wanted.stale:
            return  # Another has seen to it meanwhile.
        if held is not None and not wanted.is_refused and time.monotonic() < held.ends_at:
            refresh = Call("GET", "/scouter/auth/refresh", _issued)
            answer = yield from self._attempts(refresh, {"authorization": f"Bearer {held.token}"}, wanted.deadline)
            if answer.status == 200:
                self._held = self._read(refresh, answer)
                return
        login = Call("GET", "/scouter/auth/login", _issued)
        given = {"username": self.config.username, "password": self.config._password}
        answer = yield from self._attempts(login, given, wanted.deadline)
        if answer.status != 200:
            raise self._error(login, answer)
        self._held = self._read(login, answer)

    def _read(self, call: Call[_T], answer: Answer) -> _T:
        try:
            return call.read(answer)
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise RequestError(
                f"{self.config.server_uri}{call.path} answered something else than was expected; is it a Scouter server "
                f"of this version? ({type(error).__name__}: {error})",
                status=answer.status,
            ) from error

    def farewell(self) -> Generator[Step, Came, None]:
        """Ends the session at the server, if it has one.

        Yields:
            What to do next.
        """
        held = self._held
        if self._is_given or held is None or time.monotonic() >= held.ends_at:
            return
        self._held = None
        logout = Call("POST", "/scouter/auth/logout", lambda _: None, is_repeatable=False)
        deadline = time.monotonic() + min(_FAREWELL_SECS, self.config.timeout_secs)
        yield from self._attempts(logout, {"authorization": f"Bearer {held.token}"}, deadline)

    def too_late(self) -> ScouterError:
        """What is raised when the deadline is over before anything could be asked."""
        return self._unreachable(Failed(TimeoutError("the time was over before it was asked"), was_sent=False))

    def _attempts(self, call: Call[Any], headers: Mapping[str, str], deadline: float) -> Generator[Step, Came, Answer]:
        target = self.config.server_uri + call.path + (f"?{urlencode(call.parameters)}" if call.parameters else "")
        content = None if call.body is None else json.dumps(call.body).encode()
        kind = {} if content is None else {"content-type": "application/json"}
        attempt = 0
        # What is raised when the time is over in a pause or an attempt: a server that said that it is busy is there.
        because: ScouterError | None = None
        while True:
            attempt += 1
            if time.monotonic() >= deadline:
                raise because or self.too_late()
            came = yield Request(call.method, target, {"accept": call.accept, **kind, **headers}, content, deadline)
            pause = min(0.1 * 2**attempt, _MAX_PAUSE_SECS) * random.uniform(0.5, 1.0)  # noqa: S311
            if isinstance(came, Answer) and came.status in (429, 503):
                asked = came.headers.get("retry-after", "")
                pause = max(pause, float(asked)) if asked.isdecimal() else pause
                because = self._error(call, came)
                if time.monotonic() + pause >= deadline:
                    raise because
            elif isinstance(came, Answer):
                return came
            else:
                assert isinstance(came, Failed)  # noqa: S101
                if because is None or time.monotonic() < deadline:
                    because = self._unreachable(came)
                may_repeat = call.is_repeatable or not came.was_sent
                if not may_repeat or attempt >= _CONNECT_ATTEMPTS or time.monotonic() + pause >= deadline:
                    raise because from came.error
            yield Pause(pause)

    def _unreachable(self, came: Failed) -> ScouterError:
        what = f"{type(came.error).__name__}: {came.error}" if str(came.error) else type(came.error).__name__
        return UnavailableError(
            f"{self.config.server_uri} gave no answer within {self.config.timeout_secs:g} s ({what}): is scouter-server running there? "
            "SCOUTER_SERVER_URI or HttpConfig(server_uri=...) say where it is, HttpConfig(timeout_secs=...) how long to wait"
        )

    def _error(self, call: Call[Any], answer: Answer) -> ScouterError:
        try:
            said = answer.json()
            text, code, action = str(said["error"]), str(said.get("code", "")), str(said.get("suggested_action", ""))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            text, code, action = answer.content[:300].decode(errors="replace").strip() or f"HTTP {answer.status}", "", ""
        if answer.status == 401:
            who = "the token of HttpConfig(auth_token=...) or SCOUTER_AUTH_TOKEN" if self._is_given else f"user {self.config.username!r}"
            return AuthenticationError(
                f"{self.config.server_uri} refused {who}: {text}; "
                + ("give a valid one" if self._is_given else "correct SCOUTER_USERNAME and SCOUTER_PASSWORD, or HttpConfig's")
            )
        message = f"{call.method} {call.path}: {text}" + (f"; {action}" if action else "")
        if answer.status in (429, 503):
            return UnavailableError(f"{self.config.server_uri} asked to come back later until the time was over; {message}")
        kind = {403: PermissionDeniedError, 404: NotFoundError}.get(answer.status, RequestError)
        return kind(message, status=answer.status, code=code, suggested_action=action)
