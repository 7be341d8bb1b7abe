"""Settings of a project: each value with its default, its meaning and where it came from.

The file ``meterhouse.toml``, then the environment, then options of the command; the last
one that names a setting wins. Cheap to import: every command reads it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from meterhouse.errors import ConfigError, nearest

__all__ = [
    "ENVIRONMENT_PREFIX",
    "FILE_NAME",
    "SETTINGS",
    "STORES",
    "Origin",
    "Setting",
    "Settings",
    "default_text",
    "find_project",
    "load_settings",
    "read_duration",
    "read_size",
]

FILE_NAME: Final = "meterhouse.toml"
ENVIRONMENT_PREFIX: Final = "METERHOUSE_"
NOT_SETTINGS: Final = frozenset(
    {"METERHOUSE_PROJECT", "METERHOUSE_SAMPLE", "METERHOUSE_CASSANDRA_PASSWORD"}
)
"""Variables of ours that are no settings: where project and test sample are, a secret."""

SIZES: Final = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
DURATIONS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LARGEST: Final = 2**53
LONGEST_SECONDS: Final = 100_000 * 86400
"""Beyond these a size or a length of time is a slip of the finger."""


def read_size(value: object) -> int:
    """Return bytes from text as "64MiB"; units are B, KiB, MiB, GiB, TiB."""
    match = re.fullmatch(r"([1-9][0-9]{0,15})(B|KiB|MiB|GiB|TiB)", text_of(value))
    if match is None or int(match[1]) * SIZES[match[2]] > LARGEST:
        raise ValueError('write a size as "64MiB" (B, KiB, MiB, GiB, TiB)')
    return int(match[1]) * SIZES[match[2]]


def read_duration(value: object) -> timedelta:
    """Return the length of time from text as "7d"; units are s, m, h, d."""
    match = re.fullmatch(r"(0|[1-9][0-9]{0,11})([smhd])", text_of(value))
    if match is None or int(match[1]) * DURATIONS[match[2]] > LONGEST_SECONDS:
        raise ValueError('write a length of time as "7d" (s, m, h, d)')
    return timedelta(seconds=int(match[1]) * DURATIONS[match[2]])


def read_count(value: object) -> int:
    """Return a whole number from 1 to 1024, given as a number or as text."""
    text = str(value) if isinstance(value, int) else text_of(value)
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text) or int(text) > 1024:
        raise ValueError("write a whole number from 1 to 1024")
    return int(text)


def read_flag(value: object) -> bool:
    """Return true or false, given as such or as text."""
    if isinstance(value, bool):
        return value
    if value not in ("true", "false"):
        raise ValueError("write true or false")
    return value == "true"


def read_port(value: object) -> int:
    """Return a TCP port, given as a number or as text."""
    text = str(value) if isinstance(value, int) else text_of(value)
    if not re.fullmatch(r"[1-9][0-9]{0,4}", text) or int(text) > 65535:
        raise ValueError("write a port from 1 to 65535")
    return int(text)


def read_hosts(value: object) -> tuple[str, ...]:
    """Return host names or addresses, given as a list or as text with commas between them."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ValueError('write a list, as ["10.0.0.1"]; in the environment 10.0.0.1,10.0.0.2')
    return tuple(item.strip() for item in items if item.strip())


STORES: Final = ("cassandra", "astra")
FORMS: Final = ("tables", "collections")


def read_stores(value: object) -> tuple[str, ...]:
    """Return names of stores beside the embedded one, given as ``read_hosts`` takes them."""
    stores = read_hosts(value)
    if not set(stores) <= set(STORES) or len(set(stores)) < len(stores):
        raise ValueError(f"write a list of {', '.join(STORES)}, each once")
    return stores


def read_text(value: object) -> str:
    """Return text as it is; empty where nothing is meant."""
    if not isinstance(value, str):
        raise ValueError("write text in quotes")
    return value


def read_keyspace(value: object) -> str:
    """Return the name of a keyspace."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,47}", text_of(value)):
        raise ValueError("write a name of letters, digits and _, at most 48")
    return text_of(value)


def read_form(value: object) -> str:
    """Return how rows are kept in Astra's Data API."""
    if text_of(value) not in FORMS:
        raise ValueError(f"write {' or '.join(FORMS)}")
    return text_of(value)


CONSISTENCY: Final = (
    *("ONE", "TWO", "THREE", "QUORUM", "ALL", "LOCAL_ONE", "LOCAL_QUORUM", "EACH_QUORUM"),
)


def read_consistency(value: object) -> str:
    """Return one of Cassandra's consistency levels."""
    if text_of(value) not in CONSISTENCY:
        raise ValueError(f"write one of {', '.join(CONSISTENCY)}")
    return text_of(value)


def read_folders(value: object) -> tuple[str, ...]:
    """Return folders, given as a list or as text with : between them."""
    items = value.split(":") if isinstance(value, str) else value
    if not isinstance(items, list) or not items or not all(text_of(item) for item in items):
        raise ValueError('write a list of folders, as ["inbox"]; in the environment inbox:other')
    return tuple(items)


def text_of(value: object) -> str:
    """Return ``value`` where it is text, else the empty text, which no form allows."""
    return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that can be set."""

    name: str
    """"section.name", as in the file and in messages."""
    default: str
    """As it would be written in the file (TOML)."""
    doc: str
    read: Callable[[object], Any]
    """From what the file or the environment holds to the value; ValueError says the form."""

    @property
    def attribute(self) -> str:
        """Name of the field of ``Settings``."""
        return self.name.replace(".", "_")

    @property
    def variable(self) -> str:
        """Name of the environment variable."""
        return ENVIRONMENT_PREFIX + self.attribute.upper()


SETTINGS: Final = (
    Setting(
        "ingest.folders",
        '["inbox"]',
        "Folders that `meterhouse ingest` reads when it is given none; relative to the project.",
        read_folders,
    ),
    Setting(
        "ingest.piece_bytes",
        '"32MiB"',
        "Largest piece of a delivery that becomes one log entry; larger ones cost memory.",
        read_size,
    ),
    Setting(
        "follow.settle",
        '"2s"',
        "How long nothing is written before `meterhouse follow` takes an end for the end.",
        read_duration,
    ),
    Setting(
        "log.seal",
        "true",
        "True: entries are sealed by the thousand, and what they landed is packed.",
        read_flag,
    ),
    Setting(
        "log.pack_bytes",
        '"64KiB"',
        "Landed objects up to this size are packed when their entries are sealed.",
        read_size,
    ),
    Setting(
        "engine.memory",
        '"384MiB"',
        "Memory the SQL engine may use before it works on disk.",
        read_size,
    ),
    Setting("engine.threads", "2", "Processor cores the SQL engine may use.", read_count),
    Setting(
        "lake.keep",
        '"7d"',
        "How long earlier versions of the lake stay: all of an hour, then the first of each day.",
        read_duration,
    ),
    Setting(
        "lake.file_bytes",
        '"64MiB"',
        "Size that small lake files are compacted to.",
        read_size,
    ),
    Setting(
        "serving.keep_windows",
        '"35d"',
        "How much event time of the window tables the serving store holds; the lake has all.",
        read_duration,
    ),
    Setting(
        "serving.replicas",
        "[]",
        "Stores that follow and batch keep up beside the embedded one: cassandra, astra.",
        read_stores,
    ),
    Setting(
        "cassandra.hosts",
        "[]",
        "Nodes of the cluster that the gold tables are replicated to; none: no replica.",
        read_hosts,
    ),
    Setting("cassandra.port", "9042", "Port that its nodes answer CQL on.", read_port),
    Setting(
        "cassandra.keyspace",
        '"cloud_provider"',
        "Keyspace of the replica's tables; ASTRA_DB_KEYSPACE wins over it.",
        read_keyspace,
    ),
    Setting(
        "cassandra.replication",
        '"simple:1"',
        "How a keyspace is made: simple:1, network:dc1=3,dc2=3, or none where it is there.",
        read_text,
    ),
    Setting(
        "cassandra.local_dc",
        '""',
        "Data centre that requests go to; empty: that of the first node that answers.",
        read_text,
    ),
    Setting(
        "cassandra.consistency",
        '"LOCAL_QUORUM"',
        "Consistency level of reads and writes; ONE is enough for a single node.",
        read_consistency,
    ),
    Setting("cassandra.timeout", '"10s"', "How long one request may take.", read_duration),
    Setting("cassandra.user", '""', "User; empty where the cluster asks for none.", read_text),
    Setting(
        "cassandra.password_file",
        '""',
        "File that holds the password; METERHOUSE_CASSANDRA_PASSWORD wins over it.",
        read_text,
    ),
    Setting(
        "cassandra.ca",
        '""',
        "PEM file of the authority that signed the nodes' certificates; empty: no TLS.",
        read_text,
    ),
    Setting(
        "cassandra.certificate",
        '""',
        "PEM file of our own certificate, where the cluster asks for one.",
        read_text,
    ),
    Setting("cassandra.key", '""', "PEM file of its key.", read_text),
    Setting(
        "cassandra.bundle",
        '""',
        "Secure connect bundle of an Astra database; ASTRA_DB_SECURE_BUNDLE wins over it.",
        read_text,
    ),
    Setting(
        "astra.endpoint",
        '""',
        "API endpoint of an Astra database's Data API; ASTRA_DB_API_ENDPOINT wins over it.",
        read_text,
    ),
    Setting(
        "astra.form",
        '"tables"',
        "How rows are kept there: tables (typed) or collections (JSON documents).",
        read_form,
    ),
    Setting(
        "astra.keyspace",
        '"default_keyspace"',
        "Keyspace of the replica there; ASTRA_DB_KEYSPACE wins over it.",
        read_keyspace,
    ),
    Setting("astra.timeout", '"30s"', "How long one request there may take.", read_duration),
    Setting(
        "access.group_shared",
        "false",
        "True: users of the folder's Unix group can read everything.",
        read_flag,
    ),
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the value of a setting came from."""

    setting: Setting
    text: str
    """The value as text, as written."""
    place: str
    """"default", "meterhouse.toml:12", "METERHOUSE_ENGINE_THREADS" or
    "--set engine.threads"."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in force. Sizes are bytes, lengths of time are timedeltas."""

    ingest_folders: tuple[str, ...]
    ingest_piece_bytes: int
    follow_settle: timedelta
    log_seal: bool
    log_pack_bytes: int
    engine_memory: int
    engine_threads: int
    lake_keep: timedelta
    lake_file_bytes: int
    serving_keep_windows: timedelta
    serving_replicas: tuple[str, ...]
    cassandra_hosts: tuple[str, ...]
    cassandra_port: int
    cassandra_keyspace: str
    cassandra_replication: str
    cassandra_local_dc: str
    cassandra_consistency: str
    cassandra_timeout: timedelta
    cassandra_user: str
    cassandra_password_file: str
    cassandra_ca: str
    cassandra_certificate: str
    cassandra_key: str
    cassandra_bundle: str
    astra_endpoint: str
    astra_form: str
    astra_keyspace: str
    astra_timeout: timedelta
    access_group_shared: bool
    origins: tuple[Origin, ...]
    """One per setting, in the order of ``SETTINGS``."""


def load_settings(
    project: Path, environ: Mapping[str, str], options: Mapping[str, str] | None = None
) -> Settings:
    """Return the settings of ``project``; ``options`` is "section.name" to text.

    Raises:
        ConfigError: A setting does not exist (the nearest is named), or its value does
            not have the form it needs.
    """
    path = project / FILE_NAME
    given = {name: (value, place) for name, value, place in from_file(path)}
    given |= {name: (value, place) for name, value, place in from_environment(environ)}
    for name, option in (options or {}).items():
        given[known(name, "option").name] = (option, f"--set {name}")
    values: dict[str, Any] = {}
    origins: list[Origin] = []
    for setting in SETTINGS:
        default = tomllib.loads(f"value = {setting.default}")["value"]
        value, place = given.get(setting.name, (default, "default"))
        try:
            values[setting.attribute] = setting.read(value)
        except ValueError as error:
            raise ConfigError(
                f'setting "{setting.name}" can\'t be {shown(value)}', place, str(error)
            ) from error
        origins.append(Origin(setting, shown(value), place))
    return Settings(**values, origins=tuple(origins))


def from_file(path: Path) -> list[tuple[str, object, str]]:
    """Return (setting, value, place) for everything the file sets."""
    try:
        text = path.read_text("utf-8")
        sections = tomllib.loads(text)
    except FileNotFoundError as error:
        raise ConfigError(
            "folder is not a project", str(path), "make one with `meterhouse init DIR`"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError("settings are not UTF-8", str(path), "save it as UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"settings are not TOML: {str(error).lower()}", str(path), "mend the line"
        ) from error
    found: list[tuple[str, object, str]] = []
    for section, body in sections.items():
        if not isinstance(body, dict):
            place = place_in(path, text, "", section)
            known(section, place)
            raise ConfigError(f'"{section}" is not in a section', place, "move it below [section]")
        for name, value in body.items():
            place = place_in(path, text, section, name)
            found.append((known(f"{section}.{name}", place).name, value, place))
        if not any(setting.name.startswith(f"{section}.") for setting in SETTINGS):
            known(f"{section}.", place_in(path, text, section, ""))
    return found


def place_in(path: Path, text: str, section: str, name: str) -> str:
    """Return ``file:line`` of a name in a section; of the section when ``name`` is empty."""
    current, heading = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"\s*\[\s*([^\]]+?)\s*\]", line):
            current = match[1]
            heading = number if current == section else heading
        elif current == section and name and re.match(rf'\s*"?{re.escape(name)}"?\s*=', line):
            return f"{path}:{number}"
    return f"{path}:{heading}" if heading else str(path)


def from_environment(environ: Mapping[str, str]) -> list[tuple[str, object, str]]:
    """Return (setting, value, place) for every variable that sets one."""
    by_variable = {setting.variable: setting for setting in SETTINGS}
    found: list[tuple[str, object, str]] = []
    for variable in sorted(environ):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in NOT_SETTINGS:
            continue
        if variable not in by_variable:
            hint = nearest(variable, [*by_variable, *NOT_SETTINGS])
            raise ConfigError(
                f'environment variable "{variable}" sets nothing',
                "environment",
                f"did you mean {hint}? (unset {variable})" if hint else f"unset {variable}",
            )
        found.append((by_variable[variable].name, environ[variable], variable))
    return found


def known(name: str, place: str) -> Setting:
    """Return the setting ``name``.

    Raises:
        ConfigError: There is none; the nearest is named.
    """
    names = {setting.name: setting for setting in SETTINGS}
    if name in names:
        return names[name]
    # A right name in the wrong section, or in none, is nearer than any spelling.
    hint = next((full for full in names if full.split(".")[1] == name.split(".")[-1]), None)
    hint = hint or nearest(name, names)
    raise ConfigError(
        f'setting "{name.rstrip(".")}" does not exist',
        place,
        f'did you mean "{hint}"?' if hint else f"use one of {', '.join(names)}",
    )


def shown(value: object) -> str:
    """Return a value as a person would write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return str(value)


def default_text() -> str:
    """Return the file that ``meterhouse init`` writes: every setting, commented, at its default."""
    lines = [
        "# Settings of this Meterhouse project. Every line shows the default: take away the #",
        "# to change it. The environment goes before this file (METERHOUSE_ENGINE_THREADS=4);",
        "# `meterhouse config` shows what is in force and where it came from.",
    ]
    section = ""
    for setting in SETTINGS:
        heading, name = setting.name.split(".")
        if heading != section:
            lines += ["", f"[{heading}]"]
            section = heading
        lines += [f"# {setting.doc}", f"# {name} = {setting.default}"]
    return "\n".join(lines) + "\n"


def find_project(option: str | None, environ: Mapping[str, str], cwd: Path) -> Path:
    """Return the project folder: ``option``, else METERHOUSE_PROJECT, else the nearest parent.

    Raises:
        ConfigError: There is no project there; every place looked at is listed, in order.
    """
    variable = environ.get("METERHOUSE_PROJECT", "")
    for value, name in ((option, "--project"), (variable, "METERHOUSE_PROJECT")):
        if not value:
            continue
        folder = (cwd / value).absolute()
        if (folder / FILE_NAME).is_file():
            return folder
        raise ConfigError(
            f"{name} is not a project: it holds no {FILE_NAME}",
            str(folder),
            f"make one with `meterhouse init {value}`",
        )
    looked_at = [cwd, *cwd.parents]
    for folder in looked_at:
        if (folder / FILE_NAME).is_file():
            return folder
    raise ConfigError(
        "no project was found",
        "--project (not given), METERHOUSE_PROJECT (not set), "
        + ", ".join(str(folder) for folder in looked_at),
        "go into a project, name one with --project DIR, or make one with `meterhouse init DIR`",
    )
