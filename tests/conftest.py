"""What several tests need: the real data, and a way to run only the quick tests.

``pytest --fast`` is ``make test-fast``: the tests of numbers, tables, files and pages. Tests that
build networks, run commands on images or take seconds are marked ``pipeline`` here; their files are
not even collected then, and importing TensorFlow or Keras is an error.
"""

from __future__ import annotations

import os
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Each process of tests has one core; more threads than cores wait for each other.
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ.setdefault(_name, "1")

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
# Folders and files whose tests build networks, run commands on images, or take long.
PIPELINE = (
    "learning",
    "plugins",
    "commands",
    "imaging/test_crop_resampled.py",
    "test_cases_profiling.py",
    "evaluation/test_real_evaluations.py",
    "test_packaging.py",
    "test_registry.py",
    "test_end_to_end.py",
    "test_memory.py",
)
# Tests of the other folders that take seconds, of processor time of their own.
LONG = {
    "test_a_page_of_what_is_necessary",
    "test_every_part_of_the_inputs_is_on_the_page",
    "test_hand_drawn_outlines",
    "test_held_out_likelihood_is_scikit_learns_search",
    "test_hostile_names_are_text",
    "test_large_index_is_read_in_seconds",
    "test_permuted_labels_are_at_chance",
    "test_plate_of_eight_bits",
    "test_ranks_are_those_of_cellprofiler",
    "test_same_seed_same_bytes_for_any_number_of_workers",
    "test_shuffled_mechanisms_score_at_chance",
    "test_size_of_a_large_screen",
    "test_the_table_of_all_methods",
    "test_three_sites_a_second_on_one_core",
}
NETWORK_LIBRARIES = ("tensorflow", "keras")


class _Refused(MetaPathFinder):
    """Refuses to import a network library."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0] in NETWORK_LIBRARIES:
            raise RuntimeError(f"a test of test-fast imports {name}; see PIPELINE in conftest.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="neither networks nor pipelines")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--fast"):
        sys.meta_path.insert(0, _Refused())


def _is_pipeline(path: Path) -> bool:
    name = path.relative_to(TESTS).as_posix()
    return any(name == part or name.startswith(f"{part}/") for part in PIPELINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if config.getoption("--fast") and collection_path.suffix == ".py":
        return _is_pipeline(collection_path) or None
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if _is_pipeline(item.path) or getattr(item, "originalname", "") in LONG:
            item.add_marker(pytest.mark.pipeline)
    # The longest test first, so that other processes do all the rest meanwhile.
    items.sort(key=lambda item: item.path.name != "test_end_to_end.py")
    if config.getoption("--fast"):
        slow = [
            item
            for item in items
            if item.get_closest_marker("pipeline") or item.get_closest_marker("slow")
        ]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of public real data; the test is skipped where it is absent."""
    named = os.environ.get("DEEPPROFILER_TEST_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real test data: neither DEEPPROFILER_TEST_DATA nor {folder} exists")
    return folder
