"""What a running ``follow`` says: lines for people, or one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Literal

from meterhouse.errors import MeterhouseError
from meterhouse.formats import timestamp_text
from meterhouse.ports import Clock

__all__ = ["Say"]


class Say:
    """Writes one line for each thing that happened. The same thing twice in a row once."""

    def __init__(
        self, write: Callable[[str], None], clock: Clock, form: Literal["text", "json"] = "text"
    ) -> None:
        """Write lines with ``write``, with the time of ``clock``."""
        self._write = write
        self._clock = clock
        self._form = form
        self._said: dict[str, str] = {}

    def info(self, event: str, text: str, **fields: object) -> None:
        """Say what happened: a name that never changes, words for people, values."""
        self._say("info", event, text, fields)

    def warning(self, event: str, text: str, **fields: object) -> None:
        """Say what somebody should look at."""
        self._say("warning", event, text, fields)

    def error(self, event: str, about: str, error: MeterhouseError, **fields: object) -> None:
        """Say why ``about`` does not go on; nothing while it is for the reason said last."""
        if self._said.get(about) != error.what:
            self._said[about] = error.what
            self._say("error", event, str(error), {"about": about, **error.body(), **fields})

    def over(self, about: str) -> None:
        """Note that ``about`` goes on: the same error is worth a line again."""
        self._said.pop(about, None)

    def _say(self, level: str, event: str, text: str, fields: Mapping[str, object]) -> None:
        now = timestamp_text(self._clock())
        if self._form == "json":
            body = {"time": now, "level": level, "event": event, **fields}
            self._write(json.dumps(body, ensure_ascii=True))
        else:
            mark = "" if level == "info" else f"{level}: "
            self._write(f"{now} {mark}{text}")
