"""The queues of a program: made of profiles, shut down when the program ends, renewed in its forked children."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import weakref
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from scouter._scouter import EvalRecord, GrpcConfig, Queue, RecordQueue
from scouter.errors import ConfigError, MissingQueueError
from scouter.transport import TransportConfig

if TYPE_CHECKING:
    # It takes longer to import than all of this package.
    from typing_extensions import Self as _Self

__all__ = ["QueueReport", "ScouterQueue"]

_logger = logging.getLogger("scouter")

EXIT_TIMEOUT_SECS = 5.0
"""How long the end of the process waits for records to be delivered."""

_EVALUATIONS = ("genai", "agent")


class QueueReport(NamedTuple):
    """What became of the records when the queues were shut down.

    Args:
        delivered: Records stored by the server over the life of the queues.
        undelivered: Records that are not known to be stored.
        last_error: The last words of the server or of the network.
    """

    delivered: int
    undelivered: int
    last_error: str | None


class ScouterQueue:
    """One queue for each profile, over one connection. Made by `from_path` or `from_profile`.

    ``queues["alias"].insert(item)`` counts an item on the calling thread and returns; what the profile asks for is sent
    in the background, and what is left when the program ends.
    """

    def __init__(self, queues: RecordQueue, transport_config: TransportConfig, profiles: Mapping[str, Any]) -> None:
        """Use `from_path` or `from_profile`."""
        self._record_queue = queues
        self._transport_config = transport_config
        self._profiles = dict(profiles)
        self._queues: dict[str, Queue] = dict(queues.queues())
        _at_exit_and_fork(self)

    @classmethod
    def from_path(
        cls,
        path: Mapping[str, str | PathLike[str]],
        transport_config: TransportConfig | None = None,
        wait_for_startup: bool = False,
    ) -> _Self:
        """Makes queues of profiles in files, as Scouter's ``save_to_json`` writes them. Needs no network.

        Args:
            path: The file of each alias.
            transport_config: Where the server is; the environment says so when it is omitted.
            wait_for_startup: Accepted for code that has it. There is nothing to wait for: what is inserted before the
                server is reached is kept.

        Returns:
            The queues.

        Raises:
            ConfigError: A `ValueError` that names every file that cannot be used, with field and what was expected.
        """
        del wait_for_startup
        config = _transport(transport_config)
        paths = [(alias, fspath(file)) for alias, file in path.items()]
        queues = RecordQueue.from_paths(paths, config)
        return cls(queues, config, {alias: json.loads(Path(file).read_bytes()) for alias, file in paths})

    @classmethod
    def from_profile(
        cls,
        profile: Any,
        transport_config: TransportConfig | None = None,
        wait_for_startup: bool = False,
    ) -> _Self:
        """Makes queues of profiles. Needs no network.

        Args:
            profile: A profile, a list of profiles, or a dict of an alias and a profile each. A profile is an object with
                ``model_dump_json()``, the dict that its JSON stands for, or the JSON itself. Without a dict its alias is
                the profile's ``alias``, or its name.
            transport_config: Where the server is; the environment says so when it is omitted.
            wait_for_startup: As in `from_path`.

        Returns:
            The queues.

        Raises:
            ConfigError: A `ValueError` that names every profile that cannot be used, with field and what was expected.
        """
        del wait_for_startup
        config = _transport(transport_config)
        profiles = _profiles(profile)
        queues = RecordQueue.from_json([(alias, text) for alias, (text, _) in profiles.items()], config)
        return cls(queues, config, {alias: given for alias, (_, given) in profiles.items()})

    def __getitem__(self, key: str) -> Queue:
        """The queue of an alias.

        Raises:
            MissingQueueError: A `KeyError`, and a `RuntimeError` as in Scouter, that names the aliases there are.
        """
        try:
            return self._queues[key]
        except KeyError:
            raise MissingQueueError(f"there is no queue {key!r}; there are {sorted(self._queues)}") from None

    @property
    def transport_config(self) -> TransportConfig:
        """Where the server is."""
        return self._transport_config

    def is_empty(self) -> bool:
        """Whether there is no queue."""
        return not self._queues

    def flush(self, timeout: float = 5.0) -> bool:
        """Publishes everything inserted before, windows that are not full included, and waits until it is stored.

        Args:
            timeout: The longest it waits, in seconds; more than a day is a day.

        Returns:
            True when the server has stored all of it. False when time ran out, or some was lost.
        """
        return self._record_queue.flush(timeout)

    def shutdown(self, timeout: float = 5.0) -> QueueReport:
        """Publishes and delivers what is left. Items inserted later are dropped and counted. May be called again.

        Args:
            timeout: The longest it waits, in seconds, for all queues together; more than a day is a day.

        Returns:
            What became of the records. When some were not delivered, a warning says so as well.
        """
        report = QueueReport(**self._record_queue.shutdown_within(timeout))
        if report.undelivered:
            words = f"; last error: {report.last_error}" if report.last_error else ""
            _logger.warning("monitoring records not delivered: %d%s", report.undelivered, words)
        return report

    def stats(self) -> dict[str, Any]:
        """What became of items and records.

        Returns:
            ``queues`` holds an account of items for each alias, where
            ``inserted == published + waiting + sampled_out + dropped``, and of their values; ``records`` that of the
            records made of them, where ``ended == exported + rejected + dropped + queued + in_flight``.
        """
        return self._record_queue.stats()

    def enable_capture(self) -> None:
        """Keeps the evaluation records that are inserted from now on, beside sending them: at most 20,000 a queue."""
        for queue in self._queues.values():
            queue.enable_capture()

    def disable_capture(self) -> None:
        """Keeps no more evaluation records."""
        for queue in self._queues.values():
            queue.disable_capture()

    def drain_records(self, alias: str) -> list[EvalRecord]:
        """Gives the evaluation records that one queue has kept, and forgets them.

        Args:
            alias: The queue's alias.
        """
        return self[alias].drain()

    def drain_all_records(self) -> dict[str, list[EvalRecord]]:
        """Gives the evaluation records that all queues of evaluation profiles have kept, and forgets them."""
        return {alias: self[alias].drain() for alias in self.agent_profiles()}

    def agent_profiles(self) -> dict[str, Any]:
        """The evaluation profiles by alias: as they were given, or what their files hold."""
        evaluations = (alias for alias, queue in self._queues.items() if queue.identifier.rsplit("/", 1)[-1] in _EVALUATIONS)
        return {alias: self._profiles[alias] for alias in evaluations}

    def genai_profiles(self) -> dict[str, Any]:
        """The name of `agent_profiles` in earlier versions."""
        return self.agent_profiles()

    def _set_sample_ratio(self, sample_ratio: float) -> None:
        """Sets which part of evaluation records is kept, for all queues."""
        self._record_queue.set_sample_ratio(sample_ratio)

    def _after_fork_in_child(self) -> None:
        self._record_queue._after_fork_in_child()

    def __enter__(self) -> _Self:
        """Shuts down at the end of the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Shuts down, for at most five seconds."""
        self.shutdown()

    def __repr__(self) -> str:
        """The aliases."""
        return f"ScouterQueue({sorted(self._queues)})"


def _transport(transport_config: object) -> TransportConfig:
    if transport_config is None:
        return GrpcConfig()
    if not isinstance(transport_config, TransportConfig):
        kind = type(transport_config).__name__
        raise ConfigError(f"transport_config must be a scouter.transport.GrpcConfig or another one of scouter.transport, not {kind}")
    return transport_config


def _profiles(profile: Any) -> dict[str, tuple[str, Any]]:
    """The JSON and the object of each alias."""
    if isinstance(profile, Mapping) and "config" not in profile:
        named: Mapping[Any, Any] = profile  # pyright: ignore[reportUnknownVariableType]
        return {str(alias): (_text(one), one) for alias, one in named.items()}
    is_list = isinstance(profile, Sequence) and not isinstance(profile, (str, bytes))
    several: list[Any] = [*profile] if is_list else [profile]
    profiles: dict[str, tuple[str, Any]] = {}
    for one in several:
        text = _text(one)
        alias = _alias(one, text)
        if alias in profiles:
            raise ConfigError(f"two profiles have the alias {alias!r}; give them as a dict of alias and profile")
        profiles[alias] = (text, one)
    return profiles


def _text(profile: Any) -> str:
    if isinstance(profile, (str, bytes)):
        return profile if isinstance(profile, str) else profile.decode()
    if isinstance(profile, Mapping):
        return json.dumps(profile)
    dump = getattr(profile, "model_dump_json", None)
    if dump is None:
        raise ConfigError(f"a profile must be an object with model_dump_json(), a dict or JSON, not {type(profile).__name__}")
    return str(dump())


def _alias(profile: Any, text: str) -> str:
    alias = getattr(profile, "alias", None)
    if alias is None:
        with contextlib.suppress(ValueError, AttributeError):
            parsed = json.loads(text)
            alias = parsed.get("alias") or parsed.get("config", {}).get("name")
    return str(alias) if alias else "default"


_open: weakref.WeakSet[ScouterQueue] = weakref.WeakSet()
_exit_arranged = False


def _at_exit_and_fork(queues: ScouterQueue) -> None:
    global _exit_arranged
    # Tracing is imported when it is needed: it takes its time.
    from scouter.tracing._fork import at_child_exit, renew_in_child

    _open.add(queues)
    renew_in_child(queues)
    if not _exit_arranged:
        _exit_arranged = True
        atexit.register(_at_exit)
    at_child_exit(_at_exit)


def _at_exit() -> None:
    for queues in list(_open):
        with contextlib.suppress(Exception):
            queues.shutdown(EXIT_TIMEOUT_SECS)
