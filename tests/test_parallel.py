"""Usable cores, order, bounded reading ahead, and what happens when something dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from deepprofiler.errors import DataError
from deepprofiler.parallel import ordered_map, usable_cores
from deepprofiler.project import Project, paths

ROOT = Path(__file__).resolve().parents[1]


def slow_first(item: int) -> int:
    time.sleep(0.05 if item % 4 == 0 else 0)
    return item * item


def refuse_three(item: int) -> int:
    if item == 3:
        raise DataError("item 3 is broken")
    return item


def die(item: int) -> int:
    if item == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


@pytest.mark.parametrize(
    ("kind", "workers"), [("process", 1), ("process", 2), ("thread", 1), ("thread", 3)]
)
def test_order(kind, workers):
    found = list(ordered_map(slow_first, range(13), workers=workers, kind=kind))
    assert found == [item * item for item in range(13)]


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_nothing_to_do(kind):
    assert list(ordered_map(slow_first, [], workers=2, kind=kind)) == []


@pytest.mark.parametrize("workers", [1, 3])
def test_reads_ahead_no_further_than_twice_its_workers(workers):
    taken = []

    def items():
        for item in range(50):
            taken.append(item)
            yield item

    results = ordered_map(lambda item: item, items(), workers=workers, kind="thread")
    assert taken == []
    for count in range(1, 20):
        next(results)
        assert len(taken) - count < 2 * workers
    results.close()


def test_a_thread_reads_ahead_while_the_result_is_used():
    began = threading.Semaphore(0)
    results = ordered_map(lambda item: began.release(), range(4), workers=1, kind="thread")
    next(results)
    assert all(began.acquire(timeout=5) for _ in range(2))
    results.close()


@pytest.mark.parametrize(("kind", "workers"), [("process", 1), ("process", 2), ("thread", 2)])
def test_an_exception_comes_in_its_place(kind, workers):
    results = ordered_map(refuse_three, range(8), workers=workers, kind=kind)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match="item 3 is broken"):
        next(results)


def test_an_exception_of_the_items_comes_through():
    def items():
        yield 0
        raise DataError("no second item")

    with pytest.raises(DataError, match="no second item"):
        list(ordered_map(slow_first, items(), workers=2, kind="thread"))


def test_a_killed_worker_is_told():
    with pytest.raises(DataError, match=r"want of memory.*--cores"):
        list(ordered_map(die, range(6), workers=2))


def test_stopping_early_leaves_no_thread():
    before = threading.active_count()
    results = ordered_map(slow_first, range(100), workers=2, kind="thread")
    next(results)
    results.close()
    assert threading.active_count() == before


PARENT = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from deepprofiler.parallel import ordered_map, usable_cores
from deepprofiler.project import Project, paths
from test_parallel import tell_and_wait
if __name__ == "__main__":
    list(ordered_map(tell_and_wait, [sys.argv[2]] * 2, workers=2))
"""


def tell_and_wait(folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60)


@pytest.fixture
def parent(tmp_path):
    """A program with two workers at work, and their process numbers."""
    script, folder = tmp_path / "parent.py", tmp_path / "workers"
    script.write_text(PARENT)
    folder.mkdir()
    words = [sys.executable, str(script), str(ROOT / "tests"), str(folder)]
    process = subprocess.Popen(
        words, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    for _ in range(600):
        workers = [int(path.name) for path in folder.iterdir()]
        if len(workers) == 2:
            break
        time.sleep(0.1)
    else:
        process.kill()
        pytest.fail("the workers did not start")
    yield process, workers
    process.kill()
    process.communicate()


def is_running(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
def test_workers_end_with_a_killed_parent(parent):
    process, workers = parent
    assert all(map(is_running, workers))
    os.kill(process.pid, signal.SIGKILL)
    for _ in range(100):
        if not any(map(is_running, workers)):
            return
        time.sleep(0.1)
    for number in workers:
        os.kill(number, signal.SIGKILL)
    pytest.fail("the workers outlived their parent")


QUOTAS = {
    "no control groups": (None, {}, None),
    "version 2 without quota": ("0::/job\n", {"job/cpu.max": "max 100000\n"}, None),
    "version 2": ("0::/job\n", {"job/cpu.max": "200000 100000\n"}, 2),
    "a part of a core": ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
    "two and a half": ("0::/\n", {"cpu.max": "250000 100000\n"}, 3),
    "of a group around it": (
        "0::/slurm/job_7/step_0\n",
        {"slurm/job_7/cpu.max": "300000 100000\n", "slurm/job_7/step_0/cpu.max": "max 100000\n"},
        3,
    ),
    "version 1": (
        "5:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n",
        {
            "cpu,cpuacct/docker/1/cpu.cfs_quota_us": "400000\n",
            "cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000\n",
        },
        4,
    ),
    "version 1 without quota": (
        "4:cpu:/\n",
        {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
        None,
    ),
    "version 1 in a container": (
        "4:cpu:/kubepods/pod1/2\n",
        {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "50000\n"},
        2,
    ),
}


@pytest.mark.parametrize("case", QUOTAS)
def test_usable_cores(tmp_path, monkeypatch, case):
    groups, files, quota = QUOTAS[case]
    if groups is not None:
        (tmp_path / "cgroup").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    for allowed in (1, 8):
        cores = set(range(allowed))
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: cores, raising=False)
        expected = min(allowed, quota or allowed)
        assert usable_cores(tmp_path / "cgroup", tmp_path / "fs") == expected
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores(tmp_path / "cgroup", tmp_path / "fs") == (quota or 64)


def test_a_project_uses_no_more(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "usable_cores", lambda: 3)
    assert Project(tmp_path).workers == 3
    assert Project(tmp_path, cores=7).workers == 7
