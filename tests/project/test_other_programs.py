"""What is written, read by the programs it is for, each in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_original_features import made, rows

from deepprofiler.project.original_features import write_npz

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def environment(folder: Path, *packages: str, python: str = sys.executable) -> str:
    """A fresh environment with some packages; its Python."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    found = str(folder / "bin" / "python")
    subprocess.run([found, "-m", "pip", "install", "--quiet", *packages], check=True)
    return found


def run(python: str, *words: str, home: Path) -> str:
    """What ``python WORDS…`` prints, with this package on its path."""
    variables = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(home), "MPLBACKEND": "Agg"}
    answer = subprocess.run([python, *words], capture_output=True, text=True, env=variables)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def newer_python() -> str | None:
    """A Python of at least 3.12 that starts, for what needs one."""
    names = [sys.executable, *(shutil.which(f"python3.{minor}") for minor in (12, 13, 14))]
    ask = "import sys; sys.exit(sys.version_info < (3, 12))"
    for name in names:
        if name and subprocess.run([name, "-c", ask], capture_output=True).returncode == 0:
            return name
    return None


def test_pycytominer_copairs_anndata_and_scanpy(tmp_path: Path) -> None:
    """All tests of profiles in files, none skipped but for want of real data."""
    packages = ("pycytominer", "copairs", "anndata", "scanpy", "pyarrow", "pytest")
    python = environment(tmp_path / "room", *packages)
    files = [f"tests/profiling/test_{name}.py" for name in ("profiles", "h5ad")]
    words = ("-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "--rootdir", str(ROOT))
    text = run(python, *words, *(str(ROOT / file) for file in files), home=tmp_path)
    assert "passed" in text
    skipped = [line for line in text.splitlines() if line.startswith("SKIPPED")]
    assert [line for line in skipped if "needs the real test data" not in line] == []


MANTISPY = """
import sys
from pathlib import Path
import anndata, mantispy, numpy as np, pandas as pd
from deepprofiler.profiling import Profiles
metadata = pd.DataFrame({
    "Metadata_Plate": ["000042", "000042", "NA"],
    "Metadata_Well": ["A01", "B02", "A01"],
    "Metadata_Treatment": ["DMSO", "T1", "T1"],
    "Metadata_Control": ["negative", "", ""],
    "Metadata_Cell_Count": [3, 1, 2],
})
wells = Profiles(metadata, np.random.default_rng(0).normal(size=(3, 4)), list("abcd"))
cells = wells.subset([0, 0, 1])
for name, profiles in (("wells", wells), ("cells", cells)):
    path = Path(sys.argv[1]) / f"{name}.h5ad"
    profiles.write(path)
    mantispy.io.validate(anndata.read_h5ad(path), raise_on_error=True)
    print(name, mantispy.io.read(path).uns["mantispy"]["resolution"])
"""


def test_mantispy_validates_it(tmp_path: Path) -> None:
    python = newer_python()
    if python is None:
        pytest.skip("mantispy needs Python 3.12 or newer, and there is none here")
    python = environment(tmp_path / "room", "mantispy==0.1.0a1", "pyarrow", python=python)
    (tmp_path / "validate.py").write_text(MANTISPY)
    text = run(python, str(tmp_path / "validate.py"), str(tmp_path), home=tmp_path)
    assert text.splitlines()[-2:] == ["wells well", "cells aggregate"]


# DuckDB would download these extensions; here they come from the package index.
CYTOTABLE = """
import sys
from pathlib import Path
import duckdb, duckdb_ext
for folder in duckdb_ext.__path__:
    for path in Path(folder).rglob("*.duckdb_extension"):
        duckdb.connect().execute(f"INSTALL '{path}'")
from cytotable import convert
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor
convert(
    source_path=sys.argv[1], dest_path=sys.argv[2], dest_datatype="parquet",
    source_datatype="npz", preset="deepprofiler", concat=True, join=False,
    parsl_config=Config(executors=[ThreadPoolExecutor()], run_dir=sys.argv[3]),
)
"""


def test_cytotable_reads_the_originals_layout(tmp_path: Path) -> None:
    wells = [made("P1", well) for well in ("A01", "A02")]
    for well in wells:
        write_npz(tmp_path / "npz", well, rows("1", "2"), model="resnet18")
    packages = ("cytotable", "duckdb==1.4.4", "duckdb-ext-sqlite", "duckdb-ext-httpfs")
    python = environment(tmp_path / "room", *packages)
    (tmp_path / "convert.py").write_text(CYTOTABLE)
    folders = [str(tmp_path / name) for name in ("npz", "tables", "log")]
    run(python, str(tmp_path / "convert.py"), *folders, home=tmp_path)
    parts = [pd.read_parquet(path) for path in (tmp_path / "tables").rglob("*.parquet")]
    found = pd.concat(parts).sort_values(["Location_Center_X", "resnet18_1"])
    cells = pd.concat([well.cells for well in wells], ignore_index=True)
    features = np.concatenate([well.features for well in wells])
    order = np.lexsort([features[:, 0], cells["x"]])
    assert len(found) == 14
    assert found["Metadata_Site"].tolist() == cells["site"][order].tolist()
    np.testing.assert_array_equal(found["Location_Center_Y"], cells["y"][order])
    np.testing.assert_array_equal(found[["resnet18_1", "resnet18_2"]], features[order])
