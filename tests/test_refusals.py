"""What the operating system refuses: one message with what to do, exit 2, never a traceback."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import h5py
import pytest
from command import command

from deepprofiler.errors import FileSystemError, refusal, system_remedy
from deepprofiler.files import open_versioned, replacing

LOCKS = "HDF5_USE_FILE_LOCKING=FALSE"
# What HDF5 says where a disk offers no locks, such as Lustre, NFS without its daemon, a FUSE mount.
NO_LOCKS = (
    "Unable to synchronously open file (unable to lock file, errno = {0}, error message = '{1}')"
)


def hdf5_error(number: int) -> OSError:
    return OSError(number, NO_LOCKS.format(number, os.strerror(number)))


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        *((hdf5_error(getattr(errno, name)), LOCKS) for name in ("ENOLCK", "EAGAIN", "ENOSYS")),
        (OSError(NO_LOCKS.format(37, "No locks available")), LOCKS),
        (OSError(errno.ENOLCK, "No locks available"), LOCKS),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "smaller --cores"),
        (OSError(errno.EIO, "Input/output error", "a.h5"), "dmesg"),
        (OSError("Can't read data (file read failed: errno = 5, error message = 'x')"), "dmesg"),
        (OSError(errno.ESTALE, "Stale file handle", "a.h5"), "mount it again"),
        (OSError(errno.ETIMEDOUT, "Connection timed out", "a.h5"), "mount it again"),
        (OSError(errno.ENOTCONN, "Transport endpoint is not connected"), "mount it again"),
        (OSError(errno.EMFILE, "Too many open files", "a.h5"), "ulimit -n"),
        (OSError(errno.ENOSPC, "No space left on device", "a.h5"), "free some space"),
        (OSError(errno.EXDEV, "Invalid cross-device link", "a.h5"), "--verbose"),
        (OSError("something of a library"), "--verbose"),
    ],
)
def test_every_refusal_says_what_to_do(tmp_path, monkeypatch, error, remedy):
    assert remedy in refusal(error)

    def fail(project):
        raise error

    monkeypatch.setattr("deepprofiler.commands.setup.setup", fail)
    answer = command(tmp_path, "setup")
    assert answer.code == 2
    (message,) = [line for line in answer.text.splitlines() if line.startswith("error: ")]
    assert remedy in message
    assert "Traceback" not in answer.text
    assert "Traceback" in command(tmp_path, "--verbose", "setup").text


def test_what_is_not_of_the_system():
    assert system_remedy(OSError("Unable to open file (file signature not found)")) is None
    assert system_remedy(OSError(errno.ENOENT, "No such file or directory")) is None


def test_a_file_that_another_program_has_locked(tmp_path):
    """It is not called damaged: the advice for that is to delete it."""
    path = tmp_path / "P1.h5"
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": "x", "version": 1})
    code = (
        "import fcntl, sys; file = open(sys.argv[1], 'r+'); fcntl.flock(file, fcntl.LOCK_EX); "
        "print('locked', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(FileSystemError) as caught:
            open_versioned(path, "x", versions=range(1, 2), advice="delete it")
        other.stdin.close()
    assert str(path) in str(caught.value)
    assert LOCKS in str(caught.value)
    assert "delete it" not in str(caught.value)


def test_a_disk_without_locks_when_written(tmp_path, monkeypatch):
    """The message names the file, which HDF5's does not."""

    def refuse(*_: object) -> None:
        raise hdf5_error(errno.ENOLCK)

    monkeypatch.setattr(h5py, "File", refuse)
    path = tmp_path / "P1.h5"
    with pytest.raises(OSError, match="unable to lock") as caught, replacing(path) as temporary:
        h5py.File(temporary, "w")
    assert refusal(caught.value).startswith(f"{path}: ")
    assert LOCKS in refusal(caught.value)
