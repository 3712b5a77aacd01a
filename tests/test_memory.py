"""Memory is bounded by a well, not by a plate or the screen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from base_plugin import use_small_network
from base_project import BaseProject
from made_features import COMPOUNDS, CONTROLS, MadeFeatures

FEW, MANY = 4, 40
STATUS = Path("/proc/self/status")
# Not `resource.getrusage`: a new process inherits that peak from the one that started it.
MEASURE = """
import sys
from pathlib import Path
from deepprofiler.project import Project
from deepprofiler.commands.{stage} import {stage}
{stage}(Project(Path(sys.argv[1]), cores=1))
lines = dict(line.split(":", 1) for line in Path("{status}").read_text().splitlines())
print(int(lines["VmHWM"].split()[0]) / 2**10)
"""


def peak(root: Path, stage: str) -> float:
    """Most memory, in megabytes, of a process that runs a stage on a project."""
    if not STATUS.exists():
        pytest.skip(f"needs {STATUS}, which Linux has")
    words = [sys.executable, "-c", MEASURE.format(stage=stage, status=STATUS), str(root)]
    process = subprocess.run(words, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return float(process.stdout.split()[-1])


def require_bounded(few: float, many: float, all_cells: float) -> None:
    """Ten times the plates need at most a fifth more; holding all their cells would need more."""
    assert all_cells > 0.2 * few, "the test would say nothing"
    assert many <= 1.2 * few, f"{FEW} plates: {few:.0f} MB, {MANY} plates: {many:.0f} MB"


@pytest.mark.parametrize(
    ("cells", "size", "settings"),
    [
        (700, 64, {"evaluate": ["nsc"]}),
        pytest.param(2000, 256, {"report": True}, marks=pytest.mark.slow),
    ],
)
def test_analyze(tmp_path: Path, cells: int, size: int, settings: dict[str, object]) -> None:
    peaks = {}
    for plates in (FEW, MANY):
        root = tmp_path / str(plates)
        layers = {"conv4a": size}
        made = MadeFeatures(root, layers, plates=plates, cells=cells, linked=True)
        made.settings = settings
        made.write()
        peaks[plates] = peak(root, "analyze")
    wells = MANY * (COMPOUNDS + CONTROLS)
    # Two sites each, in single precision.
    require_bounded(peaks[FEW], peaks[MANY], wells * 2 * cells * size * 4 / 2**20)


@pytest.mark.slow
def test_profile(tmp_path: Path) -> None:
    cells, side = 2000, 32
    rng = np.random.default_rng(0)
    peaks = {}
    for plates in (FEW, MANY):
        names = tuple(f"P{number}" for number in range(plates))
        base = BaseProject(tmp_path / str(plates), plates=names, sites=("1",))
        base.config["crops"] = {"size": side}
        base.config["prepare"] = {"illumination": False}
        use_small_network(base).config["profile"] |= {"checkpoint": "random"}
        base.write()
        for row in base.rows:
            place = [row[f"Metadata_{name}"] for name in ("Plate", "Well", "Site")]
            base.write_locations(rng.uniform(20, 230, size=(cells, 2)), *place)
        peaks[plates] = peak(base.root, "profile")
    crops = len(base.rows) * cells * side**2 * 3 * 4 / 2**20
    require_bounded(peaks[FEW], peaks[MANY], crops)
