"""Real profiles: per-well means of CellProfiler features of BBBC021 (Ljosa et al. 2013)."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from deepprofiler.evaluation import nsc, replicate_accuracy, shuffled
from deepprofiler.profiling import Profiles, Standardize, group_means

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "bbbc021" / "profiles.py"


def experiment() -> ModuleType:
    """Import the experiment's own functions, for the tests judge what it prints."""
    # Its files import one another, as when it is run.
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPT.parent))
        spec = importlib.util.spec_from_file_location("bbbc021_profiles", SCRIPT)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


bbbc021 = experiment()
PLATE, TREATMENT, COMPOUND = bbbc021.PLATE, bbbc021.TREATMENT, bbbc021.COMPOUND
MECHANISM, COUNT, MEMBERS = bbbc021.MECHANISM, bbbc021.COUNT, bbbc021.MEMBERS
controls_of = bbbc021.controls_of


@pytest.fixture(scope="module")
def every(shared_data: Path) -> Profiles:
    return bbbc021.read_wells(shared_data / "bbbc021_profiles")


@pytest.fixture(scope="module")
def wells(every: Profiles) -> Profiles:
    return bbbc021.select(every)


def scores(method: str, wells: Profiles, aggregate: str = "mean") -> tuple[float, float]:
    """Right treatments, of 103 (NSC) and of 92 (NSCB)."""
    given, _ = bbbc021.normalized(bbbc021.METHODS[method], wells)
    same, other = bbbc021.score(given, aggregate)
    assert (same.n, other.n) == (103, 92)
    assert same.total == other.total == 103
    return same.value * 103, other.value * 92


def test_the_screen(wells: Profiles) -> None:
    assert len(wells) == 632
    assert controls_of(wells).sum() == 330
    assert len(wells.groups([PLATE])) == 55
    assert len(wells.groups([TREATMENT])) == 104


def test_one_of_each_correlated_pair_goes(every: Profiles, wells: Profiles) -> None:
    """pycytominer's rule, written out pair by pair: 167 of 511 features that vary stay."""
    varied = bbbc021.only(every, bbbc021.varied(every))
    assert (len(every.names), len(varied.names)) == (516, 511)
    table = pd.DataFrame(varied.features, columns=varied.names).corr().abs()
    order = table.sum().round(9).sort_values(kind="stable").index
    place = {name: position for position, name in enumerate(order)}
    gone = set()
    for position, first in enumerate(varied.names):
        for second in table.index[:position][table[first].to_numpy()[:position] > 0.9]:
            gone.add(max(first, second, key=place.__getitem__))
    assert wells.names == [name for name in varied.names if name not in gone]
    assert len(wells.names) == 167
    left = np.abs(np.corrcoef(wells.features, rowvar=False)) - np.eye(167)
    assert left.max() <= 0.9


def test_the_published_recipe(every: Profiles) -> None:
    """Published: accuracy 0.82, 84 of 103; the interval 0.73 to 0.89."""
    same, _ = bbbc021.score(bbbc021.published(every), "mean", "correlation")
    assert abs(same.value * 103 - 84) <= 5


def test_standardized_over_the_screen(wells: Profiles) -> None:
    _, chain = bbbc021.normalized([("standardize", {})], wells)
    assert chain.steps[0].fitted_.fewest_controls.n == 6
    same, other = scores("screen", wells)
    assert same >= 93
    assert other >= 65


@pytest.mark.parametrize("aggregate", ["mean", "median"])
def test_tvn_with_its_default_shrinkage(wells: Profiles, aggregate: str) -> None:
    same, other = scores("tvn", wells, aggregate)
    assert same >= 95
    assert other >= 76


def test_six_controls_per_plate_are_too_few(wells: Profiles) -> None:
    assert scores("plate", wells)[0] <= 90


def test_the_table_of_all_methods(every: Profiles, wells: Profiles) -> None:
    pytest.importorskip("harmonypy", reason="needs the extra harmony")
    table = bbbc021.table(bbbc021.results(every, wells))
    assert list(table.columns) == [
        "method",
        "aggregate",
        *(f"nsc{what}" for what in ("", "_n", "_low", "_high")),
        *(f"nscb{what}" for what in ("", "_n", "_low", "_high")),
    ]
    assert list(dict.fromkeys(table["method"])) == [
        "published",
        "none",
        "plate",
        "screen",
        "robust",
        "sphering",
        "tvn",
        "tvn_authors",
        "tvn_efaar",
        "harmony",
    ]
    assert set(table["nsc_n"]) == {103}
    assert set(table["nscb_n"]) == {92}
    for name in ("nsc", "nscb"):
        assert (table[f"{name}_low"] < table[name]).all()
        assert (table[name] < table[f"{name}_high"]).all()
    published = table.set_index("method").loc["published"]
    assert published[["nsc_low", "nsc_high"]].round(2).tolist() == [0.73, 0.89]


@pytest.mark.slow
def test_the_experiment_runs(shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("harmonypy", reason="needs the extra harmony")
    out = tmp_path / "results.csv"
    answer = subprocess.run(
        [sys.executable, SCRIPT, shared_data / "bbbc021_profiles", "--out", out],
        check=True,
        capture_output=True,
        text=True,
    )
    table = pd.read_csv(out)
    tvn = table[table["method"] == "tvn"]
    assert ((tvn["nsc"] >= 95 / 103) & (tvn["nscb"] >= 76 / 92)).any()
    # The README holds what is printed.
    readme = (SCRIPT.parent / "README.md").read_text(encoding="utf-8")
    for row in table.itertuples():
        start = f"| `{row.method}` | {row.aggregate} | {row.nsc * 103:.0f} | {row.nsc:.3f} | "
        assert start in readme
        assert f" | {row.nscb * 92:.0f} | {row.nscb:.3f} | " in readme
    # So do the tables of what decides, in the same order, and of the readings.
    decides = re.findall(r"^(?!Readings).+: (\d+), (\d+)$", answer.stdout, re.MULTILINE)
    part = readme[readme.index("## What decides") : readme.index("## Does TVN")]
    assert re.findall(r"\| (\d+) \| (\d+) \|$", part, re.MULTILINE) == decides
    readings = re.findall(
        r"left out: (\d+) features, NSC (\d+) of 103, NSCB (\d+) of 92", answer.stdout
    )
    shown = re.findall(r"\| (\d+) \| (\d+) \| (\d+) \| \d+: \d+, \d+ \|", readme)
    assert len(readings) == 6
    assert sorted(shown) == sorted(readings)
    assert "tvn less screen, mean, NSCB: +0.130 (-0.012 to +0.271)" in answer.stdout


@pytest.mark.parametrize("method", ["screen", "tvn"])
def test_shuffled_mechanisms_score_at_chance(wells: Profiles, method: str) -> None:
    given, _ = bbbc021.normalized(bbbc021.METHODS[method], wells)
    treatments = group_means(given, [TREATMENT], count=COUNT, members=MEMBERS, weight="wells")
    controls = controls_of(treatments)
    result = shuffled(
        lambda given: nsc(given, **bbbc021.ROLES, controls=controls),
        treatments,
        MECHANISM,
        unit=COMPOUND,
        controls=controls,
        times=40,
    )
    assert abs(result.mean - result.chance) < 2 * result.standard_error
    assert result.mean < 0.25


def test_replicates_are_found(wells: Profiles) -> None:
    standard = Standardize().fit(wells).transform(wells)
    result = replicate_accuracy(
        standard,
        treatment=TREATMENT,
        compound=COMPOUND,
        controls=controls_of(wells),
        differ=[PLATE],
    )
    assert result.n == 302
    assert result.value > 20 * result.chance
