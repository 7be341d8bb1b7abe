"""What users deliver, drawn from the seed: in any order, twice, late, wrong, cut anew."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

__all__ = ["Producer"]

_ORGS = ("a", "b", "c", "d")
_SERVICES = ("compute", "storage", "genai")
_ODD_LINES = (
    "no json at all",
    '{"id": "half',
    '["id", "e"]',
    '{"id": "twice", "id": "twice", "org": "a"}',
    '{"id": "e-typed", "org": "a", "ts": "2025-07-01T00:00:00Z", "service": "x", "cost": true}',
    '{"org": "a", "ts": "2025-07-01T00:00:00Z", "service": "x", "cost": 1}',
    '{"id": "e-timeless", "org": "b", "ts": null, "service": "x", "cost": 1}',
    '{"id": "e-odd-time", "org": "b", "ts": "yesterday", "service": "x", "cost": 1}',
    '{"id": "e-refund", "org": "b", "ts": "2025-07-01T00:00:00Z", "service": "x", "cost": -7}',
    '{"id": "e-fine", "org": "b", "ts": "2025-07-01T00:00:00Z", "service": "x", "cost": 1e-10}',
    '{"id": "e-empty", "org": "", "ts": "2025-07-01T00:00:00Z", "service": "x", "cost": 1}',
)


@dataclass
class Producer:
    """Writes deliveries into one folder; remembers what it wrote."""

    folder: Path
    chance: random.Random
    now: Callable[[], datetime]
    lines: list[str] = field(default_factory=list)
    """Every line of an event that was ever written, once."""
    growing: dict[str, bytes] = field(default_factory=dict)
    """Append files and what they hold."""
    half: dict[str, bytes] = field(default_factory=dict)
    """Append file → the rest of its last line, not written yet."""
    tables: dict[str, bytes] = field(default_factory=dict)
    """Upsert and snapshot files and what they hold."""
    tampered: dict[str, bytes] = field(default_factory=dict)
    """Append file → what it should hold: something taken was changed, and must be refused."""
    _files: int = 0
    _events: int = 0

    def act(self) -> str:
        """Do one thing; return what, for the trace."""
        actions: list[tuple[int, Callable[[], str]]] = [
            (5, self._new_events),
            (5, self._grow),
            (3, self._again),
            (2, self._cut_anew),
            (3, self._invoices),
            (2, self._orgs),
            (1, self._copy_table),
            (1, self._tamper),
        ]
        weights = [weight for weight, _ in actions]
        return self.chance.choices([action for _, action in actions], weights)[0]()

    def settle(self) -> None:
        """Finish every half line and mend what was tampered with."""
        for name, rest in list(self.half.items()):
            self._append(name, rest)
        self.half.clear()
        for name, data in list(self.tampered.items()):
            self._write(name, data)
        self.tampered.clear()

    def event(self) -> str:
        """Return the line of a new event, or of one that is wrong somehow."""
        draw = self.chance.random()
        if draw < 0.1:
            return self.chance.choice(_ODD_LINES)
        if draw < 0.15 and self._events:
            # Another payload of an event that was delivered, or will be.
            number = self.chance.randrange(self._events + 2)
        else:
            number = self._events
            self._events += 1
        minutes = self.chance.choice([5, 60, 60 * 24, 60 * 24 * 40, -10])
        ts = self.now() - timedelta(minutes=minutes * self.chance.random())
        cost = self.chance.choice(["0.1", "0.10", "2.5", "-0.01", "1000000.000000001", "null", "3"])
        fields = [
            ("id", f'"e{number}"'),
            ("org", f'"{self.chance.choice(_ORGS)}"'),
            ("ts", f'"{ts:%Y-%m-%dT%H:%M:%SZ}"'),
            ("service", f'"{self.chance.choice(_SERVICES)}"'),
            ("cost", cost),
        ]
        if self.chance.random() < 0.3:
            self.chance.shuffle(fields)
        return "{" + ", ".join(f'"{name}": {value}' for name, value in fields) + "}"

    def _batch(self, most: int = 6) -> list[str]:
        fresh = [self.event() for _ in range(self.chance.randint(1, most))]
        self.lines += fresh
        return fresh

    def _new_events(self) -> str:
        data = self._text(self._batch())
        name = self._name("events", ".jsonl")
        if self.chance.random() < 0.2:
            self._write(f"{name}.gz", gzip.compress(data, mtime=0))
            return f"writes {name}.gz"
        self.growing[name] = b""
        self._append(name, data)
        return f"writes {name}"

    def _grow(self) -> str:
        names = [name for name in self.growing if name not in self.tampered]
        if not names:
            return self._new_events()
        name = self.chance.choice(names)
        data = self.half.pop(name, b"") + self._text(self._batch())
        if self.chance.random() < 0.4:
            # The last line is half written: it waits, unless it is complete but for its end.
            last = data.rstrip(b"\n").rfind(b"\n") + 1
            cut = self.chance.choice([self.chance.randint(last, len(data)), len(data) - 1])
            data, self.half[name] = data[:cut], data[cut:]
        self._append(name, data)
        return f"grows {name}" + (", not to the end of a line" if name in self.half else "")

    def _again(self) -> str:
        """Deliver old lines again under another name, in another order and spelling."""
        if not self.lines:
            return self._new_events()
        some = self.chance.sample(self.lines, min(len(self.lines), self.chance.randint(1, 12)))
        spelled = [_respelled(line, self.chance) for line in some]
        name = self._name("events", ".jsonl")
        self.growing[name] = b""
        self._append(name, self._text(spelled + self._batch(2)))
        return f"delivers {len(some)} lines again as {name}"

    def _cut_anew(self) -> str:
        """Deliver what two files hold as one, or the second half of one."""
        whole = [name for name in self.growing if name not in self.tampered]
        if not whole:
            return self._new_events()
        chosen = [self.growing[name] for name in self.chance.sample(whole, min(len(whole), 2))]
        lines = b"".join(one if one.endswith(b"\n") else one + b"\n" for one in chosen)
        cut = self.chance.choice([0, len(lines) // 2])
        name = self._name("events", ".jsonl")
        self.growing[name] = b""
        self._append(name, lines[cut:])
        return f"cuts {len(chosen)} files anew as {name}"

    def _invoices(self) -> str:
        """A new file of invoices, or the next delivery of one."""
        known = [name for name in self.tables if name.startswith("invoices")]
        again = known and self.chance.random() < 0.5
        name = self.chance.choice(known) if again else self._name("invoices", ".csv")
        rows = ["invoice,org,amount"]
        for _ in range(self.chance.randint(0 if again else 1, 6)):
            amount = self.chance.choice(["10", "10.50", "-3.333333333", "0.000000001", "", "x"])
            number = self.chance.randint(1, 9)
            rows.append(f"i{number},{_ORGS[number % 3]},{amount}")
        if self.chance.random() < 0.2:
            rows.append("i1,a")
        self._table(name, rows)
        return f"writes {name}, {len(rows) - 1} rows"

    def _orgs(self) -> str:
        """The next list of organisations: somebody may be gone, or too many."""
        known = [name for name in self.tables if name.startswith("orgs")]
        again = known and self.chance.random() < 0.5
        name = self.chance.choice(known) if again else self._name("orgs", ".csv")
        listed = [org for org in _ORGS if self.chance.random() < 0.8]
        plans = [f"{org},{self.chance.choice(['free', 'pro'])}" for org in listed]
        self._table(name, ["org,plan", *plans])
        return f"writes {name}: {''.join(listed)}"

    def _copy_table(self) -> str:
        """The same bytes under another name: all of it was there before."""
        if not self.tables:
            return self._orgs()
        old = self.chance.choice(sorted(self.tables))
        name = self._name(old.partition("-")[0], ".csv")
        self._write(name, self.tables[old])
        self.tables[name] = self.tables[old]
        return f"copies {old} to {name}"

    def _tamper(self) -> str:
        """Change something at the beginning of a file that may have been taken."""
        names = [name for name, data in self.growing.items() if data and name not in self.half]
        if not names or self.tampered:
            return self._new_events()
        name = self.chance.choice(names)
        data = self.growing[name]
        self.tampered[name] = data
        self._write(name, data.replace(b'"', b"'", 1))
        return f"tampers with {name}"

    def _text(self, lines: list[str]) -> bytes:
        return "".join(f"{line}\n" for line in lines).encode()

    def _table(self, name: str, rows: list[str]) -> None:
        self.tables[name] = self._text(rows)
        self._write(name, self.tables[name])

    def _name(self, source: str, ending: str) -> str:
        self._files += 1
        return f"{source}-{self._files}{ending}"

    def _append(self, name: str, data: bytes) -> None:
        self.growing[name] += data
        with (self.folder / name).open("ab") as file:
            file.write(data)

    def _write(self, name: str, data: bytes) -> None:
        (self.folder / name).write_bytes(data)


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


def _respelled(line: str, chance: random.Random) -> str:
    """The same record in other bytes: keys in another order, more blanks."""
    fields: list[tuple[str, Any]]
    try:
        fields = json.loads(line, parse_float=_Number, parse_int=_Number, object_pairs_hook=list)
    except ValueError:
        return line
    if line.startswith("[") or "twice" in line or chance.random() < 0.5:
        return line
    chance.shuffle(fields)
    shown = [
        f'"{name}":  {value if isinstance(value, _Number) else json.dumps(value)}'
        for name, value in fields
    ]
    return "{" + ",".join(shown) + " }"
