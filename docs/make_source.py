"""Write docs/source.md from the docstrings of all modules: ``python docs/make_source.py``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PAGE = Path(__file__).with_name("source.md")
ROOT = PAGE.parents[1]

HEAD = """\
# The source, file by file

<!-- Made by `python docs/make_source.py`; do not edit. -->

Every file with the first line of its docstring. [Design](design.md) says which folder may import
which.
"""
#: Folders in the order in which they may import each other; the first may not import any other.
FOLDERS = (
    "deepprofiler",
    *(
        f"deepprofiler/{name}"
        for name in (
            "imaging",
            "learning",
            "profiling",
            "evaluation",
            "report",
            "simulate",
            "config",
            "project",
            "commands",
            "commands/analyze",
        )
    ),
    *(f"plugins/{name}" for name in ("models", "crop_generators")),
)


def text() -> str:
    """Give the page as text."""
    parts = [HEAD]
    for folder in FOLDERS:
        parts.append(f"\n## {folder}\n\n")
        if summary := _summary(ROOT / folder / "__init__.py"):
            parts.append(f"{summary}\n\n")
        parts.append("| file | what it is |\n|---|---|\n")
        parts += _rows(ROOT / folder)
    return "".join(parts)


def _rows(folder: Path) -> Iterator[str]:
    """Row of each module of a folder; the one for ``__init__.py`` is the folder's summary."""
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py":
            yield f"| [{path.name}](../{path.relative_to(ROOT).as_posix()}) | {_summary(path)} |\n"


def _summary(path: Path) -> str:
    """First paragraph of a module's docstring; empty where there is no file."""
    if not path.exists():
        return ""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split()).replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
