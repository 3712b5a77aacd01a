"""The rules of docs/design.md: what lives where, and what may import what."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from collections import Counter
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "deepprofiler"
SOURCES = sorted(PACKAGE.rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
EVERYBODY = {
    "errors", "files", "parallel", "progress", "registry", "parameters", "columns", "delimited",
}  # fmt: skip
# In order: a room imports only from itself and from rooms above it.
ROOMS = (
    "everybody",
    "imaging",
    "learning",
    "profiling",
    "evaluation",
    "report",
    "simulate",
    "config",
    "project",
    "commands",
    "cli",
)
# Rooms that others use as libraries, and the ones among them that each uses.
LIBRARIES: dict[str, set[str]] = {
    "imaging": set(),
    "learning": set(),
    "profiling": set(),
    "evaluation": {"profiling"},
    "report": {"profiling", "evaluation"},
    "simulate": set(),
}
# Files of a format of ours, and those of other programs.
FORMATS = {
    "files.py",
    "imaging/illumination.py",
    "learning/cell_store.py",
    "learning/checkpoint.py",
    "project/well_file.py",
}
FOREIGN_HDF5 = {"learning/keras_weights.py"}


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else ROOT).as_posix()


def _module(path: Path) -> str:
    """Dotted name of a file; plugins are imported as ``deepprofiler.plugins``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "deepprofiler" else ("deepprofiler", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def _imports(path: Path) -> frozenset[str]:
    """Absolute names of modules, and of what is taken from them, also inside functions."""
    names = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{_name(path)} line {node.lineno} has a relative import"
            names.add(str(node.module))
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def _room(module: str) -> str | None:
    """Room of a module by its dotted name; None outside the package."""
    parts = module.split(".")
    if parts[0] != "deepprofiler" or len(parts) == 1:
        return None
    return "everybody" if parts[1] in EVERYBODY else parts[1]


def _rooms_used(path: Path) -> set[str]:
    return {room for name in _imports(path) if (room := _room(name)) in ROOMS}


def _strings(path: Path) -> list[str]:
    """Return every string constant of a file that is not a docstring."""
    tree = _tree(path)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    # A bare string below a constant documents it.
    docstrings |= {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
    ]


def _answer(code: str) -> str:
    """Return what a new Python process prints."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout


def test_a_room_imports_only_from_rooms_above_it():
    place = {room: number for number, room in enumerate(ROOMS)}
    wrong = []
    for path in SOURCES:
        if _name(path) in ("__init__.py", "__main__.py"):
            continue
        room = _room(_module(path))
        assert room in place, f"{_name(path)} is in no room"
        for used in _rooms_used(path) - {room}:
            library = room in LIBRARIES and used in LIBRARIES
            if place[used] > place[room] or (library and used not in LIBRARIES[room]):
                wrong.append(f"{_name(path)} imports {used}")
    assert wrong == []


def test_plugins_use_only_what_everybody_uses_and_the_room_of_networks():
    wrong = [
        f"{_name(path)} imports {used}"
        for path in PLUGINS
        for used in _rooms_used(path) - {"everybody", "learning"}
    ]
    assert wrong == []


def test_only_commands_and_project_know_the_project():
    """Also not as a type: libraries take values and give values."""
    wrong = []
    for path in [*SOURCES, *PLUGINS]:
        if _name(path).split("/")[0] in ("commands", "project", "cli.py"):
            continue
        tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        wrong += [
            f"{_name(path)} line {token.start[0]}"
            for token in tokens
            if token.type == tokenize.NAME and token.string == "Project"
        ]
    assert wrong == []


def test_rooms_without_a_network_library():
    modules = {
        room: [_module(path) for path in SOURCES if _room(_module(path)) == room]
        for room in ROOMS[: ROOMS.index("project")]
        if room != "learning"
    }
    assert all(modules.values())
    code = (
        "import importlib, sys\n"
        f"for room, names in {modules!r}.items():\n"
        "    for name in names: importlib.import_module(name)\n"
        "    loaded = [name for name in ('tensorflow', 'keras') if name in sys.modules]\n"
        "    if loaded: sys.exit(f'{room} loads {loaded}')\n"
        "print('none')"
    )
    assert _answer(code).strip() == "none"


def test_processes_that_read_images_load_no_network_library():
    """They import the module of their command, once for each core."""
    names = [
        f"deepprofiler.commands.{name}" for name in ("check", "prepare", "locate", "export_cells")
    ]
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        "print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    assert _answer(code).strip() == "[]"


def test_settings_are_read_without_a_network_library():
    names = [_module(path) for path in SOURCES if path.stem.endswith("_settings")]
    assert len(names) >= 5
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        "print([name for name in ('tensorflow', 'keras', 'sklearn') if name in sys.modules])"
    )
    assert _answer(code).strip() == "[]"


def test_profiling_loads_quickly():
    """Beyond pandas; what is large or optional is imported where it is used."""
    code = (
        "import sys, time, pandas, pyarrow\nstart = time.process_time()\n"
        "import deepprofiler.profiling\nprint(time.process_time() - start)\n"
        "large = ('tensorflow', 'keras', 'sklearn', 'matplotlib', 'anndata', 'harmonypy', 'h5py')\n"
        "print([name for name in large if name in sys.modules])"
    )
    seconds, loaded = _answer(code).splitlines()
    assert loaded == "[]"
    assert float(seconds) < 1


def test_names_of_modules_occur_once():
    stems = Counter(path.stem for path in [*SOURCES, *PLUGINS] if path.stem != "__init__")
    assert [stem for stem, count in stems.items() if count > 1] == []
    assert not stems.keys() & {"utils", "util", "helpers", "common", "misc", "tools"}


def test_commands_are_those_that_a_user_can_type():
    from deepprofiler.cli import cli

    functions = {command.callback.__name__ for command in cli.commands.values()}
    folder = PACKAGE / "commands"
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    assert files | packages == functions


def test_each_step_of_analyze_is_a_file():
    """Other files beside the steps are used by several of them, or by other commands."""
    folder = PACKAGE / "commands" / "analyze"
    (steps,) = (
        set(ast.literal_eval(node.value))
        for path in sorted(folder.glob("*.py"))
        for node in _tree(path).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "STEPS"
    )
    files = {path.stem: path for path in folder.glob("*.py") if path.stem != "__init__"}
    assert steps <= files.keys()
    for name in files.keys() - steps:
        users = [path for path in SOURCES if _module(files[name]) in _imports(path)]
        reason = _gives_a_reason(files[name])
        assert len(users) > 1 or reason, f"commands/analyze/{name}.py is used in one place"


def test_a_module_with_one_importer_gives_a_reason():
    """Its docstring says more than what is inside: why it does not lie where it is used."""
    every = [*SOURCES, *PLUGINS]
    wrong = []
    for path in SOURCES:
        # A command is imported by the command line, a step by `analyze`: rules of their own.
        if path.stem == "__init__" or _room(_module(path)) in ("commands", "cli", None):
            continue
        users = [other for other in every if _module(path) in _imports(other) and other != path]
        # What a room's own `__init__` imports is public.
        if len(users) == 1 and users[0].stem != "__init__" and not _gives_a_reason(path):
            wrong.append(f"{_name(path)} is imported by {_name(users[0])} alone")
    assert wrong == []


def _plugin_names() -> set[str]:
    """Names of shipped plugins: of their files, and of what is registered in them."""
    names = {path.stem for path in PLUGINS if path.stem != "__init__"}
    for path in PLUGINS:
        for node in ast.walk(_tree(path)):
            for decorator in getattr(node, "decorator_list", ()):
                if "register" in ast.unparse(decorator):
                    given = [a.value for a in getattr(decorator, "args", ())]
                    names |= set(given or [node.name])
    assert {"resnet18", "vgg16", "single", "mixup"} <= names
    return names


def test_no_plugin_is_named_in_the_core():
    """Except as a default of a setting, and in the translation of the original's files."""
    names = _plugin_names()
    wrong = []
    for path in SOURCES:
        if not _name(path).startswith("config/original") and not path.stem.endswith("_settings"):
            wrong += [f"{_name(path)} names {name}" for name in names & set(_strings(path))]
    assert wrong == []


def test_metadata_columns_are_named_in_one_place():
    """Templates for users may show them: they are texts of several words."""
    wrong = []
    for path in SOURCES:
        # Files named after the original read and write its formats.
        if _name(path) != "columns.py" and not path.stem.startswith("original"):
            wrong += [
                f"{_name(path)} names {text}"
                for text in _strings(path)
                if text.startswith("Metadata_") and text != "Metadata_" and " " not in text
            ]
    assert wrong == []


def test_each_hdf5_format_has_one_file():
    users = {_name(path) for path in SOURCES if "h5py" in _imports(path)}
    assert users == FORMATS | FOREIGN_HDF5


def test_hdf5_files_are_opened_in_one_way():
    """Only ``files.open_versioned`` opens a file of ours for reading."""
    wrong = []
    for path in SOURCES:
        if _name(path) in FOREIGN_HDF5 | {"files.py"}:
            continue
        functions = [node for node in ast.walk(_tree(path)) if isinstance(node, ast.FunctionDef)]
        for function in functions:
            # What tells a file of Keras from ours may look into it.
            if "keras" in function.name:
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "h5py.File":
                    mode = node.args[1] if len(node.args) > 1 else None
                    if getattr(mode, "value", "r") == "r":
                        wrong.append(f"{_name(path)} line {node.lineno}")
    assert wrong == []


def test_commands_join_no_paths():
    """Where files lie is known in project/."""
    wrong = []
    for path in SOURCES:
        if _name(path).split("/")[0] not in ("commands", "cli.py"):
            continue
        for node in ast.walk(_tree(path)):
            joined = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
            named = isinstance(getattr(node, "right", None), ast.Constant | ast.JoinedStr)
            if joined and named and isinstance(getattr(node.right, "value", ""), str):
                wrong.append(f"{_name(path)} line {node.lineno} joins a path")
    assert wrong == []


def _gives_a_reason(path: Path) -> bool:
    """Whether a module's docstring has more than its first line."""
    return len((ast.get_docstring(_tree(path)) or "").splitlines()) > 2


def _settings(parameters: type, path: str = "") -> list[tuple[str, object]]:
    """Key path and declaration of every setting below a class, sections opened."""
    from deepprofiler.parameters import Parameters, tags

    keys: list[tuple[str, object]] = []
    for name, field in parameters.model_fields.items():
        key = f"{path}.{name}" if path else name
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Parameters) and not tags(field):
            keys += _settings(kind, key)
        else:
            keys.append((key, field))
    return keys


def test_every_setting_says_what_it_decides():
    from deepprofiler.config.schema import Config
    from deepprofiler.parameters import Decides, tags

    keys = _settings(Config)
    assert len(keys) > 60
    for key, field in keys:
        assert tags(field), f"{key} does not say what it decides"
        assert set(tags(field)) <= set(map(str, Decides)), key
        assert field.description, f"{key} has no text"


def test_a_setting_is_declared_in_the_room_that_uses_it():
    """Sections are classes of the rooms; the schema only brings them together."""
    owners = [path for path in SOURCES if "deepprofiler.parameters.setting" in _imports(path)]
    stray = [
        _name(path)
        for path in owners
        if not path.stem.endswith("_settings") and _room(_module(path)) != "config"
    ]
    assert stray == []
