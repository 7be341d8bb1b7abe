"""Comparing in quiet moments what was taken of growing files with what lies there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from meterhouse.errors import EnvironmentFailureError, MeterhouseError, SourceRefusedError
from meterhouse.follow.files import File
from meterhouse.log.growth import Growth, TakenOf

__all__ = ["Comparison"]


class Comparison:
    """Goes through files once for each process, range by range, whenever there is time."""

    def __init__(
        self,
        log: TakenOf,
        clock: Callable[[], float],
        refused: Callable[[File, MeterhouseError], None],
    ) -> None:
        """Compare with what ``log`` says; ``refused`` is told of each file that differs."""
        self._log = log
        self._clock = clock
        self._refused = refused
        self._files: deque[File] = deque()
        self._steps: Iterator[None] = iter(())

    def begin(self, files: Iterable[File]) -> None:
        """Go through ``files`` from now on."""
        self._files = deque(file for file in files if file.grows)
        self._steps = self._all()

    def step(self, until: float) -> bool:
        """Compare until the time ``until``; return whether anything is left."""
        return any(self._clock() >= until for _ in self._steps)

    def _all(self) -> Iterator[None]:
        while self._files:
            file = self._files.popleft()
            if file.compared or file.refused is not None or not file.offset:
                continue
            try:
                for _ in (file.growth or Growth(file.delivery, self._log)).compare():
                    yield
                file.compared = True
            except SourceRefusedError as error:
                file.refuse(error)
                self._refused(file, error)
            except EnvironmentFailureError:
                # It is gone or locked: whoever looks at it next says so.
                continue
