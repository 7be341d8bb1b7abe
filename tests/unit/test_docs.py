"""The pages are complete and true: what the program has is in them, what they cite exists."""

from __future__ import annotations

import dataclasses
import importlib
import re
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import click
import pytest

from docs_pages.commands import commands
from docs_pages.cql import cql_files
from docs_pages.dictionary import shipped_contracts, shipped_models
from docs_pages.markdown import anchor
from docs_pages.pages import generated
from docs_pages.reference import EXIT_CODES, errors
from docs_pages.transcripts import PAGES
from meterhouse.config import SETTINGS
from meterhouse.intake.contract import Severity
from meterhouse.intake.contract_reading import TOP
from meterhouse.intake.contract_rules import KEYS
from meterhouse.layers.bronze import bronze_schemas
from meterhouse.log.entry import Entry, Input
from meterhouse.models.finalize import arrow_schema
from meterhouse.models.header import FIELDS
from meterhouse.names import CHECKS
from meterhouse.ports import Stamp
from meterhouse.serving.queries import QUESTIONS, ask
from meterhouse.serving.schema import layouts
from meterhouse.serving.snapshot import read as read_serving
from meterhouse.serving.sqlite import SqliteServing

ROOT = Path(__file__).resolve().parents[2]
PAGES_OF_DOCS = sorted((ROOT / "docs").rglob("*.md"))
TOP_PAGES = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
ALL_PAGES = [*TOP_PAGES, ROOT / "CHANGELOG.md", *PAGES_OF_DOCS]
CODE = sorted(
    path for folder in ("src", "tests", "tools", "bench") for path in (ROOT / folder).rglob("*.py")
)


def page(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def section(text: str, heading: str) -> str:
    """What stands below a heading, down to the next one of its level or a higher one."""
    level = heading.split(" ")[0]
    found = re.search(
        rf"^{re.escape(heading)}$(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, re.M | re.S
    )
    assert found, f"no heading {heading!r}"
    return found[1]


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$|^    .*?$|`[^`\n]*`", "", text, flags=re.M | re.S)


@pytest.mark.parametrize("path", ALL_PAGES, ids=name_of)
def test_what_is_generated_is_not_stale(path: Path) -> None:
    text = path.read_text("utf-8")

    assert generated(text) == text, "run `make docs`"


@pytest.mark.parametrize(("name", "text"), cql_files().items())
def test_the_cql_files_are_not_stale(name: str, text: str) -> None:
    assert page(name) == text, "run `make docs`"


@pytest.mark.parametrize(("name", "command"), [*commands()], ids=lambda value: str(value))
def test_every_command_and_option_is_documented(name: str, command: click.Command) -> None:
    level = "###" if " " in name else "##"
    told = section(page("docs/commands.md"), f"{level} {name}")

    assert (command.help or "").strip(), f"{name} has no help"
    assert "\\b" not in (command.help or ""), "a raw docstring: click's mark is the character"
    for option in command.params:
        if isinstance(option, click.Option):
            assert f"`{option.opts[-1]}" in told
            assert option.help, f"{name} {option.opts[-1]} does not say what it is"


def test_every_setting_is_documented() -> None:
    told = section(page("docs/operations.md"), "## Settings")

    assert [one.name for one in SETTINGS if f"`{one.name}`" not in told] == []
    assert [one.variable for one in SETTINGS if f"`{one.variable}`" not in told] == []


def test_every_key_of_a_contract_is_documented() -> None:
    text = page("docs/contracts.md")
    keys = section(text, "## Keys of a contract")
    rules = section(text, "## Rules")

    assert [key for key in TOP if f"`{key}`" not in keys] == []
    assert [key for key in KEYS if f"`{key}`" not in rules] == []
    assert [one for one in get_args(Severity) if f"| `{one}` |" not in rules] == []
    assert [one for one in CHECKS if f"| `{one}` |" not in rules] == []


@pytest.mark.parametrize("key", ["type", "from", "unit", "doc", "personal", "default", "known"])
def test_every_key_of_a_column_is_documented(key: str) -> None:
    assert f"| `{key}` |" in section(page("docs/contracts.md"), "## Columns")


def test_every_key_of_a_models_header_is_documented() -> None:
    told = section(page("docs/models.md"), "## The header")

    assert [key for key in FIELDS if f"`{key}`" not in told] == []


def test_every_class_of_error_and_exit_code_is_documented() -> None:
    text = page("docs/errors.md")

    for one in errors():
        assert f"`{one.__name__}`" in text
        assert section(text, f"### {one.code}").strip()
        assert one.exit_code in EXIT_CODES


def test_every_table_and_column_is_in_the_data_dictionary() -> None:
    text = page("docs/data-dictionary.md")
    bronze = bronze_schemas(shipped_contracts())
    tables = [one.table for one in shipped_contracts().values()] + [*shipped_models().order]

    for name in tables:
        told = section(text, f"### {name}")
        schema = arrow_schema(shipped_models()[name]) if name in shipped_models() else None
        columns = schema.names if schema else [one.name for one in contract_of(name).columns]
        assert [one for one in columns if f"| `{one}` |" not in told] == [], name
    assert [name for name in bronze if f"`{name}`" not in text and f" {name}" not in text] == []


def contract_of(table: str) -> Any:
    return next(one for one in shipped_contracts().values() if one.table == table)


def test_every_column_says_what_it_means() -> None:
    silent = [
        f"{contract.table}.{column.name}"
        for contract in shipped_contracts().values()
        for column in (*contract.columns, *contract.derived)
        if not column.doc.strip()
    ]
    silent += [
        f"{model.name}.{column.name}"
        for model in shipped_models().by_name.values()
        for column in model.columns
        if not column.doc.strip()
    ]

    assert silent == []


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A serving store that holds every gold table, empty."""
    path = tmp_path_factory.mktemp("serving") / "serving.db"
    gold = [model for model in shipped_models().by_name.values() if model.name.startswith("gold.")]
    served = SqliteServing(path, layouts(gold))
    for model in gold:
        served.load("one", model.name, arrow_schema(model).empty_table().to_reader())
    served.publish(
        "one", Stamp("p", 0, 1, "h"), ingest_ts=datetime(2025, 9, 1, tzinfo=UTC), details="{}"
    )
    return path


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_is_documented_with_its_columns(name: str, store: Path) -> None:
    told = section(page("docs/questions.md"), f"## {name}")
    listed = [
        column
        for row in re.findall(r"^\| (`[^|]*) \| [A-Z]+ \|", told, re.M)
        for column in re.findall(r"`(\w+)`", row.split(" or ")[0])
    ]

    now = datetime(2025, 9, 2, tzinfo=UTC)
    answer = read_serving(store, lambda snapshot: ask(snapshot, name, {}, now))

    assert listed == [column.name for column in answer.columns]
    assert f"meterhouse query {name}" in told


@pytest.mark.parametrize("record", [Entry, Input], ids=lambda one: str(one.__name__))
def test_every_field_of_the_log_is_in_its_format(record: Any) -> None:
    text = page("docs/log-format.md")

    assert [one.name for one in dataclasses.fields(record) if f"`{one.name}`" not in text] == []


def glossary() -> list[str]:
    rows = re.findall(r"^\| (.+?) \| .+\. \|$", page("docs/glossary.md"), re.M)
    return [term for row in rows for term in row.split(", ")]


def test_terms_of_the_glossary_are_used() -> None:
    others = [path for path in ALL_PAGES if path.name != "glossary.md"]
    shipped = sorted((ROOT / "src/meterhouse/catalog").rglob("*.*"))
    texts = " ".join(path.read_text("utf-8").lower() for path in (*others, *CODE, *shipped))

    unused = [term for term in glossary() if not re.search(rf"\b{re.escape(term)}", texts)]

    assert len(glossary()) > 30
    assert unused == []


def test_the_glossary_is_sorted_and_has_each_term_once() -> None:
    rows = re.findall(r"^\| (.+?) \| .+\. \|$", page("docs/glossary.md"), re.M)

    assert sorted(rows, key=str.lower) == rows
    assert len(glossary()) == len(set(glossary()))


def links(path: Path) -> Iterator[str]:
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not link.startswith(("http://", "https://")):
            yield link


@pytest.mark.parametrize("path", ALL_PAGES, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    for link in links(path):
        file, _, wanted = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        if wanted:
            headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.M)
            assert wanted in [anchor(heading.replace("`", "")) for heading in headings], link


def test_files_that_are_cited_exist() -> None:
    cited = re.compile(r"(?<![\w/.-])(?:docs|tests|bench|tools|src)/[\w/.-]+\.(?:md|py|sql|yaml)\b")

    missing = [
        (name_of(path), name)
        for path in (*ALL_PAGES, *CODE)
        for name in cited.findall(path.read_text("utf-8"))
        if not (ROOT / name).exists()
    ]

    assert missing == []


@pytest.mark.parametrize("path", [ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_modules_that_are_named_exist(path: Path) -> None:
    layers = "cli|analysis|verify|layers|serving|lake|engines|sources|storage|log|intake|models"
    named = re.findall(rf"`((?:{layers}|names|ports)\.(?!db`)\w+)`", path.read_text("utf-8"))

    for name in named:
        module, _, attribute = name.rpartition(".")
        if not (ROOT / "src/meterhouse" / f"{name.replace('.', '/')}.py").exists():
            assert hasattr(importlib.import_module(f"meterhouse.{module}"), attribute), name
    assert len(named) > 2


def test_the_architecture_has_the_layers_that_are_checked() -> None:
    settings = tomllib.loads(page("pyproject.toml"))["tool"]["importlinter"]
    layers = next(one for one in settings["contracts"] if one["type"] == "layers")["layers"]
    told = section(page("ARCHITECTURE.md"), "## Layers")

    drawn = re.findall(r"^    .*\n(?:      .*\n)*", told, re.M)
    named = [{*re.findall(r"[a-z_]+", re.sub(r"(?<=\w) {2,}.*", "", one))} for one in drawn]

    checked = [line.replace("meterhouse.", "") for line in layers]
    assert named == [{*line.split(" | ")} for line in checked if "testing" not in line]


def test_the_readme_is_one_sentence_a_picture_and_five_commands() -> None:
    parts = page("README.md").split("\n\n")
    block = section(page("README.md"), "## Five commands")

    assert parts[0] == "# Meterhouse"
    assert len(re.findall(r"[.!?](?:\s|$)", parts[1])) == 1
    picture = ROOT / re.findall(r"!\[.+\]\((.+\.svg)\)", parts[2])[0]
    drawn = " ".join(ElementTree.fromstring(picture.read_text("utf-8")).itertext())
    assert "landed = accepted + quarantined + duplicate" in " ".join(drawn.split())
    assert len(re.findall(r"^\$ ", block, re.M)) == 5


def test_the_changelog_is_well_formed() -> None:
    text = page("CHANGELOG.md")
    version = tomllib.loads(page("pyproject.toml"))["project"]["version"]

    headings = re.findall(r"^## (.+)$", text, re.M)

    assert text.startswith("# Changelog\n\n## ")
    assert headings[0] == version
    assert [one for one in headings if not re.fullmatch(r"\d+\.\d+\.\d+", one)] == []
    numbers = [tuple(map(int, one.split("."))) for one in headings]
    assert numbers == sorted(set(numbers), reverse=True)
    assert all(section(text, f"## {one}").strip() for one in headings)


def test_every_command_is_in_the_changelog() -> None:
    text = page("CHANGELOG.md")

    assert [name for name, _ in commands() if " " not in name and f"`{name}`" not in text] == []


UNWANTED = re.compile(
    r"\b(?:simply|obviously|powerful|seamless(?:ly)?|blazing|robust|effortless(?:ly)?|cutting|"
    r"state-of-the-art|world-class|leverage[sd]?|utili[sz]e[sd]?)\b",
    re.I,
)


def test_pages_do_without_praise() -> None:
    found = {
        name_of(path): UNWANTED.findall(without_code(path.read_text("utf-8"))) for path in ALL_PAGES
    }

    assert {name: words for name, words in found.items() if words} == {}


PRIVATE = re.compile(
    r"(?<![\w.~…-])/(?:work|home|root|Users|mnt/data|workspace)/\w"
    r"|\bissues?[ /#-]*\d|\bsession[ #-]*\d|\bticket[ #-]+\d|\(#\d+\)",
    re.I,
)


def test_nothing_tells_of_a_machine_or_of_how_it_was_made() -> None:
    looked_at = [path for path in (*ALL_PAGES, *CODE) if path != Path(__file__).resolve()]

    found = {name_of(path): PRIVATE.findall(path.read_text("utf-8")) for path in looked_at}

    assert {name: words for name, words in found.items() if words} == {}


def test_what_is_not_measured_is_left_out_where_figures_belong_only() -> None:
    waiting = [name_of(path) for path in ALL_PAGES if "to be measured" in path.read_text("utf-8")]

    assert set(waiting) <= {"docs/performance.md", "docs/reliability.md"}


def test_decisions_have_one_form_and_are_numbered() -> None:
    files = sorted((ROOT / "docs" / "decisions").glob("*.md"))

    for number, path in enumerate(files, 1):
        text = path.read_text("utf-8")
        assert path.name.startswith(f"{number:04d}-")
        assert text.startswith(f"# {number}. ")
        for part in ("Context", "Decision", "Consequence", "What would change our mind"):
            assert part in text, (path.name, part)


RUN = re.compile(r"^<!-- run", re.M)


def test_every_page_with_commands_to_run_is_run() -> None:
    marked = [name_of(path) for path in ALL_PAGES if RUN.search(path.read_text("utf-8"))]

    assert sorted(marked) == sorted(PAGES)
