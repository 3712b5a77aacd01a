"""Safe file names, and files that appear whole or not at all."""

from __future__ import annotations

import os
import string
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest

from deepprofiler.files import file_name, replacing

HOSTILE = [
    "",
    ".",
    "..",
    "...",
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\Windows",
    "a/b",
    "a\\b",
    "a:b",
    "a\0b",
    "a\nb",
    "a\x1b[31mb",
    "*",
    "?",
    '"',
    "<b>",
    "|",
    "%",
    "%2E",
    "%2F",
    ".hidden",
    "-rf",
    "\udcff",
    "\u202e",
    "x" * 150,
    "x" * 151,
    "x" * 1000,
    "ä" * 100,
    "漢" * 80,
    "漢" * 80 + "1",
]


@pytest.mark.parametrize("name", ["P1", "000042", "A01", "Week10_40111", "BR00116991 (2)", "ø µ"])
def test_ordinary_names_stay(name):
    assert file_name(name) == name


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_one_plain_part(tmp_path, name):
    safe = file_name(name)
    assert safe not in ("", ".", "..")
    assert not set(safe) & set('/\\:*?"<>|\0')
    assert all(unicodedata.category(c)[0] != "C" for c in safe)
    assert not safe.startswith(".")
    assert len(safe.encode()) <= 200
    (tmp_path / safe).write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == [safe]


def test_different_names_stay_different():
    names = {*HOSTILE, *string.printable, *(a + b for a in "./%~" for b in "./%~2EF")}
    assert len({file_name(name) for name in names}) == len(names)


def test_replacing_writes_and_makes_folders(tmp_path):
    path = tmp_path / "a" / "b" / "c.csv"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(path) as temporary:
        temporary.write_bytes(b"half" + (tmp_path / "absent").read_bytes())
    with pytest.raises(FileNotFoundError), replacing(path):
        pass  # Nothing was written.
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_removed(tmp_path):
    path = tmp_path / "c.csv"
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from deepprofiler.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=Path(__file__).parents[1])
    (left,) = tmp_path.iterdir()
    # The file of a process that lives, of another machine, and of somebody else's program.
    host = left.suffixes[-2][1:9]
    kept = [f".d.csv.{host}-{os.getppid()}.part", f".d.csv.{'0' * 8}-{2**30}.part", ".mine.part"]
    old = f".e.csv.{'0' * 8}-{2**30}.part"
    for name in [*kept, old]:
        (tmp_path / name).write_text("half")
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(tmp_path / old, (two_days_ago, two_days_ago))
    with replacing(path) as temporary:
        temporary.write_text("whole")
    assert {entry.name for entry in tmp_path.iterdir()} == {"c.csv", *kept}
