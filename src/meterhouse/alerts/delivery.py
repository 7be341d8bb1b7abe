"""Delivers messages on a thread of its own, so that nobody who ingests ever waits for it."""

from __future__ import annotations

import fcntl
import os
import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from meterhouse.alerts.channels import NotDeliveredError, hand_over
from meterhouse.alerts.register import FILE_NAME, Delivery, Register
from meterhouse.alerts.rule import Channel
from meterhouse.errors import EnvironmentFailureError
from meterhouse.ports import Clock

__all__ = ["Deliverer", "back_off"]

FIRST_S: Final = 1.0
LONGEST_S: Final = 3600.0


def back_off(attempts: int, chance: random.Random) -> timedelta:
    """Return how long to wait after so many attempts: doubled each time, up to an hour.

    Between half of it and all of it, so that those who failed together do not come together.
    """
    seconds = min(LONGEST_S, FIRST_S * 2.0 ** min(attempts - 1, 20))
    return timedelta(seconds=seconds * chance.uniform(0.5, 1.0))


class Deliverer:
    """Hands messages of the register over, each at least once, with the same key each time."""

    def __init__(
        self,
        project: Path,
        clock: Clock,
        environ: Mapping[str, str],
        chance: random.Random,
    ) -> None:
        """Nothing is opened or started before it is needed."""
        self._project = project
        self._clock = clock
        self._environ = environ
        self._chance = chance
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._failure: Exception | None = None

    def start(self, channels: Mapping[str, Channel]) -> None:
        """Deliver what is due in the background, unless that is being done; return at once.

        Raises:
            MeterhouseError: The register could not be used in the background.
        """
        if self._thread is not None and self._thread.is_alive():
            return
        failed, self._failure = self._failure, None
        if failed is not None:
            raise failed
        self._thread = threading.Thread(
            target=self._background, args=(dict(channels),), name="alerts", daemon=True
        )
        self._thread.start()

    def close(self, wait_s: float = 0.0) -> None:
        """Wait so long for what is under way; then end after the message at hand."""
        if self._thread is not None:
            self._thread.join(wait_s)
        self._stop.set()

    def _background(self, channels: Mapping[str, Channel]) -> None:
        try:
            self.run(channels)
        except OSError as error:
            self._failure = EnvironmentFailureError(
                f"alerts can't be delivered: {error.strerror}",
                str(error.filename or self._project),
                "see to it; what waits is tried again",
            )
        except Exception as error:  # noqa: BLE001 - raised again by the next start
            self._failure = error

    def run(self, channels: Mapping[str, Channel]) -> int:
        """Try every message to ``channels`` that is due; return how many arrived.

        What fails is tried again later; the other messages to the same channel wait until the
        next run, so that a channel that is down costs one attempt a run.

        Raises:
            MeterhouseError: The register can't be used.
        """
        arrived = 0
        with self._alone() as alone, closing(Register(self._project / FILE_NAME)) as register:
            working = dict(channels) if alone else {}
            while working and not self._stop.is_set():
                due = register.due(self._clock(), list(working))
                for delivery in due:
                    if delivery.channel in working and not self._stop.is_set():
                        if self._tried(register, working[delivery.channel], delivery):
                            arrived += 1
                        else:
                            del working[delivery.channel]
                if not due:
                    break
        return arrived

    def _tried(self, register: Register, channel: Channel, delivery: Delivery) -> bool:
        now = self._clock()
        # Noted before it is tried: a crash in the middle of it is an attempt too.
        register.attempted(delivery.id, now + back_off(delivery.attempts + 1, self._chance))
        try:
            hand_over(channel, delivery, self._project, self._environ, now)
        except NotDeliveredError as error:
            register.failed(delivery.id, str(error))
            return False
        register.delivered(delivery.id, self._clock())
        return True

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Tell whether no other process delivers; two would deliver twice more often."""
        path = self._project / ".locks" / "alerts"
        path.parent.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)
