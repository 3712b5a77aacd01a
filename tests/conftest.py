"""What several tests need: the real data, and the small base project of the cases."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of public real data; the test is skipped where it is absent."""
    named = os.environ.get("DEEPPROFILER_TEST_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real test data: neither DEEPPROFILER_TEST_DATA nor {folder} exists")
    return folder
