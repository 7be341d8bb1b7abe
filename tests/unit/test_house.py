"""Rules of the house that hold for every module, and for what is installed."""

from __future__ import annotations

import ast
import importlib
import pickle
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest

from docs_pages.reference import errors
from meterhouse.errors import MeterhouseError

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
MODULES = sorted(SOURCE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
HEAVY = ("deltalake", "duckdb", "numpy", "pyarrow", "ruamel", "sqlglot", "yaml", "zstandard")
HELP = """
import sys
from meterhouse.cli import run
sys.argv = ["meterhouse", *{arguments}]
code = run()
sys.stderr.write(",".join(sorted({{name.split(".")[0] for name in sys.modules}})))
sys.exit(code)
"""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def exported(name: str) -> list[str] | None:
    """The names in a module's ``__all__``, in its order; None when it has none."""
    path = SOURCE / name.replace(".", "/")
    found = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in tree(found).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [str(item) for item in ast.literal_eval(node.value)]
    return None


def in_order(name: str) -> tuple[int, str]:
    """Constants, classes, functions; each by name."""
    return (0 if name.upper() == name else 1 if name[:1].isupper() else 2, name)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]], ids=["help", "version"])
def test_the_program_starts_without_anything_heavy(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP.format(arguments=arguments)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert [name for name in HEAVY if name in done.stderr.split(",")] == []


@pytest.mark.parametrize("error", errors(), ids=lambda one: str(one.__name__))
def test_every_error_survives_pickling(error: type[MeterhouseError]) -> None:
    raised = error("what", "where", "fix")

    again = pickle.loads(pickle.dumps(raised))

    assert type(again) is error
    assert (again.what, again.where, again.fix) == ("what", "where", "fix")
    assert str(again) == "what\n  where: where\n  fix:   fix"


def test_errors_have_a_code_of_their_own_and_end_in_error() -> None:
    codes = [error.code for error in errors()]

    assert len(codes) == len(set(codes))
    assert [error.__name__ for error in errors() if not error.__name__.endswith("Error")] == []
    assert [code for code in codes if not re.fullmatch(r"[a-z_]+", code)] == []


def test_every_module_lists_what_it_exports_in_order() -> None:
    for path in MODULES:
        defined = [node for node in tree(path).body if not isinstance(node, ast.Expr)]
        if path.name == "__main__.py" or not defined:
            continue
        names = exported(module_name(path))
        assert names is not None, f"{name_of(path)} has no __all__"
        assert names == sorted(set(names), key=in_order), name_of(path)
        module = importlib.import_module(module_name(path))
        assert [name for name in names if not hasattr(module, name)] == [], name_of(path)


def test_modules_take_from_others_only_what_they_export() -> None:
    hidden = [
        f"{name_of(path)}: {node.module}.{item.name}"
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("meterhouse")
        for item in node.names
        if not is_module(f"{node.module}.{item.name}")
        and item.name not in (exported(str(node.module)) or ())
    ]

    assert hidden == []


def is_module(name: str) -> bool:
    path = SOURCE / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists()


def test_no_file_is_named_after_nothing() -> None:
    vague = ("utils", "util", "helpers", "helper", "common", "manager", "misc", "base")

    assert [name_of(path) for path in (*MODULES, *TESTS) if path.stem in vague] == []


def test_every_file_says_in_one_line_what_it_is() -> None:
    said = {path: ast.get_docstring(tree(path)) or "" for path in (*MODULES, *TESTS)}

    odd = [
        name_of(path) for path, text in said.items() if not text.split("\n")[0].endswith((".", ":"))
    ]

    assert odd == []


def test_the_installed_package_holds_the_catalog() -> None:
    catalog = files("meterhouse") / "catalog"
    shipped = [item for item in (ROOT / "src/meterhouse/catalog").rglob("*") if item.is_file()]

    assert len([item for item in shipped if item.suffix == ".yaml"]) > 8
    assert len([item for item in shipped if item.suffix == ".sql"]) > 15
    for item in shipped:
        inside = catalog
        for part in item.relative_to(ROOT / "src/meterhouse/catalog").parts:
            inside = inside / part
        assert inside.is_file(), item
    assert (files("meterhouse") / "py.typed").is_file()


def test_the_wheel_leaves_nothing_of_the_package_out() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    ignored = (ROOT / ".gitignore").read_text("utf-8").split()
    package = [path for path in (SOURCE / "meterhouse").rglob("*") if path.is_file()]
    kept = [path for path in package if "__pycache__" not in path.parts]

    # hatchling leaves out what version control ignores.
    lost = [
        name_of(path)
        for path in kept
        for pattern in ignored
        for part in path.relative_to(ROOT).parts
        if "/" not in pattern.rstrip("/") and fnmatch(part, pattern.rstrip("/"))
    ]

    assert build == {"targets": {"wheel": {"packages": ["src/meterhouse"]}}}
    assert lost == []
