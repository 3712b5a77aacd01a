"""The rules of docs/design.md about what lives where and what may import what."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "deepprofiler"
SOURCES = sorted(PACKAGE.rglob("*.py"))
ROOMS = ("imaging", "learning", "profiling")
MOST_LINES = 310


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def _imports(path: Path, *, everywhere: bool = True) -> set[str]:
    """Absolute names of the modules that a file imports (also inside functions)."""
    found = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _strings(path: Path) -> list[str]:
    """Every string constant of a file that is no docstring."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_know_nothing_of_the_house(room):
    allowed = (f"deepprofiler.{room}", "deepprofiler.errors", "deepprofiler.files")
    for path in (PACKAGE / room).glob("*.py"):
        inside = {name for name in _imports(path) if name.startswith("deepprofiler.")}
        wrong = {name for name in inside if not name.startswith(allowed)}
        assert not wrong, f"{_name(path)} imports {wrong}"


def test_only_stages_bring_rooms_together():
    for path in SOURCES:
        rooms = {room for room in ROOMS for n in _imports(path) if n == f"deepprofiler.{room}"}
        rooms |= {
            room for room in ROOMS for n in _imports(path) if n.startswith(f"deepprofiler.{room}.")
        }
        if _name(path).split("/")[0] not in ("stages", *ROOMS):
            assert len(rooms) <= 1, f"{_name(path)} imports {rooms}"


@pytest.mark.parametrize(
    "module", ["imaging", "profiling", "metadata", "features", "config", "cli"]
)
def test_no_network_library_at_second_hand(module):
    names = [f"deepprofiler.{module}"]
    folder = PACKAGE / module
    if folder.is_dir():
        names = [f"deepprofiler.{module}.{path.stem}" for path in folder.glob("*.py")]
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        "print([n for n in ('tensorflow', 'keras') if n in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert answer.stdout.strip() == "[]"


def test_profiling_loads_quickly():
    """Beyond pandas; what is large or optional is imported where it is used."""
    code = (
        "import sys, time, pandas, pyarrow\nstart = time.process_time()\n"
        "import deepprofiler.profiling\nprint(time.process_time() - start)\n"
        "large = ('tensorflow', 'keras', 'sklearn', 'matplotlib', 'anndata', 'harmonypy', 'h5py')\n"
        "print([name for name in large if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    seconds, loaded = answer.stdout.splitlines()
    assert loaded == "[]"
    assert float(seconds) < 1


def test_no_plugin_name_in_the_core():
    names = {path.stem for path in (ROOT / "plugins").glob("*/*.py")} - {"__init__"}
    names |= {"resnet18"}
    for path in SOURCES:
        if _name(path) != "config.py" and not _name(path).startswith("legacy"):
            wrong = names & set(_strings(path))
            assert not wrong, f"{_name(path)} names the plugin(s) {wrong}"


def test_metadata_columns_are_named_in_one_file():
    for path in SOURCES:
        if _name(path) != "metadata.py" and not _name(path).startswith("legacy"):
            wrong = [s for s in _strings(path) if s.startswith("Metadata_") and s != "Metadata_"]
            assert not wrong, f"{_name(path)} names {wrong}"


def test_hdf5_is_touched_in_few_files():
    allowed = {
        "features.py",
        "imaging/illumination.py",
        "learning/cell_writer.py",
        "learning/cells.py",
        "learning/checkpoint.py",
        "learning/keras2.py",
    }
    assert {_name(path) for path in SOURCES if "h5py" in _imports(path)} <= allowed


def test_paths_are_joined_in_one_file():
    """Outside project.py nothing is joined to a constant name, but inside rooms' own folders."""
    for path in SOURCES:
        name = _name(path)
        if name.split("/")[0] not in ("stages", "cli.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            joined = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
            if joined and isinstance(node.right, ast.Constant | ast.JoinedStr):
                assert not isinstance(getattr(node.right, "value", ""), str), (
                    f"{name} line {node.lineno} joins a path"
                )


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_files_hold_one_idea(path):
    assert len(path.read_text().splitlines()) <= MOST_LINES
    assert path.name not in ("utils.py", "helpers.py", "common.py")


def test_every_line_of_the_readme_names_a_file():
    readme = (ROOT / "README.md").read_text()
    for path in [*SOURCES, *sorted((ROOT / "plugins").rglob("*.py"))]:
        if path.name != "__init__.py":
            assert path.name in readme, f"README.md has no line for {path.name}"
