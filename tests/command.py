"""Run the command line inside the test's own process."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path

from deepprofiler import cli


@dataclass(frozen=True)
class Answer:
    code: int
    text: str


def command(root: Path, *words: str) -> Answer:
    """Exit code and everything printed by ``deepprofiler --root ROOT WORDS…``.

    On one core unless ``words`` say otherwise: starting processes takes longer than their work.
    """
    stream = io.StringIO()
    before = sys.argv
    cores = [] if "--cores" in words else ["--cores", "1"]
    sys.argv = ["deepprofiler", "--root", str(root), *cores, *words]
    try:
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            cli.main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = before
    return Answer(code, stream.getvalue())
