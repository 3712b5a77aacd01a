"""`analyze --steps`: parts alone, what they keep for one another, and when that is made anew."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command import command
from made_features import MadeFeatures

from deepprofiler.errors import ConfigError
from deepprofiler.features import read_well, write_well
from deepprofiler.metadata import FLAG
from deepprofiler.profiling import Profiles
from deepprofiler.stages.aggregated import read_aggregated, write_aggregated
from deepprofiler.stages.analyze import analyze
from deepprofiler.stages.wells import gather

LAYERS = {"conv4a": 5, "pool5": 3}
AGGREGATE = {"wells-unnormalized.parquet", "counts.csv", "cells.parquet", "aggregate.npz"}
NORMALIZE = {"wells.parquet", "treatments.parquet", "normalization.npz", "features-left-out.csv"}
EVALUATE = {
    "scores.csv",
    "confusion.csv",
    "wrong-matches.csv",
    "average-precision.csv",
    "neighbours.csv",
    "layers.csv",
}


@pytest.fixture
def made(tmp_path: Path) -> MadeFeatures:
    settings = {"evaluate": ["nsc", "nscb", "replicate-accuracy"]}
    return MadeFeatures(tmp_path, LAYERS, plates=2, settings=settings).write()


def steps(made: MadeFeatures, names: str) -> str:
    answer = command(made.root, "--cores", "1", "analyze", "--steps", names)
    assert answer.code == 0, answer.text
    return answer.text


def files(made: MadeFeatures) -> set[str]:
    return {path.name for path in made.project.profiles_folder.iterdir()}


def contents(made: MadeFeatures) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in made.project.profiles_folder.iterdir()
        if path.suffix != ".npz"
    }


def test_each_step_writes_its_own(made: MadeFeatures) -> None:
    text = steps(made, "aggregate")
    assert files(made) == AGGREGATE
    assert "next: analyze --steps normalize" in text
    # What comes after needs no features of cells.
    shutil.rmtree(made.project.features_folder())
    text = steps(made, "normalize")
    assert files(made) == AGGREGATE | NORMALIZE
    assert "first" not in text
    text = steps(made, "evaluate")
    assert files(made) == AGGREGATE | NORMALIZE | EVALUATE
    assert "first" not in text
    assert "analyze: NSC " in text
    assert not made.project.report_folder.exists()


def test_steps_one_by_one_give_what_all_at_once_give(made: MadeFeatures) -> None:
    assert command(made.root, "analyze").code == 0
    at_once = contents(made)
    assert set(at_once) == {name for name in AGGREGATE | NORMALIZE | EVALUATE if ".npz" not in name}
    shutil.rmtree(made.project.profiles_folder)
    for name in ("aggregate", "normalize", "evaluate"):
        steps(made, name)
    assert contents(made) == at_once


def test_what_is_missing_is_made_first(made: MadeFeatures) -> None:
    text = steps(made, "evaluate")
    assert "wells are not aggregated yet: aggregating first" in text
    assert "wells are not normalized yet: normalizing first" in text
    assert files(made) == AGGREGATE | NORMALIZE | EVALUATE


def test_what_was_made_otherwise_is_made_anew(made: MadeFeatures) -> None:
    made.write_config(evaluate=["nsc"])
    steps(made, "normalize, evaluate")
    made.write_config(evaluate=["nsc"], normalize=["standardize"])
    text = steps(made, "evaluate")
    assert "aggregating" not in text
    assert "wells were normalized with other settings: normalizing first" in text
    made.write_config(evaluate=["nsc"], normalize=["standardize"], layer="pool5")
    assert "wells were normalized with other settings" in steps(made, "evaluate")
    made.write_config(
        evaluate=["nsc"], normalize=["standardize"], layer="pool5", aggregate="median"
    )
    text = steps(made, "evaluate")
    assert "wells were aggregated with other settings: aggregating first" in text
    assert "newer averages of wells than normalized ones: normalizing first" in text
    made.write_index([row | {"Metadata_Mechanism": "m"} for row in made.rows])
    assert "the index changed after wells were aggregated" in steps(made, "evaluate")
    made.write_features(digest="1")
    assert "there are newer features than the averages of wells" in steps(made, "evaluate")
    made.project.profiles_path("wells.parquet").unlink()
    assert "normalized wells cannot be read" in steps(made, "evaluate")
    path = made.project.profiles_path("aggregate.npz")
    whole = path.read_bytes()
    for damaged in (whole[:100], b""):
        path.write_bytes(damaged)
        assert "the averages of wells cannot be read" in steps(made, "evaluate")
    text = steps(made, "evaluate")
    assert "first" not in text


def test_steps_that_do_not_exist_are_refused(made: MadeFeatures) -> None:
    answer = command(made.root, "analyze", "--steps", "aggregate,normalise")
    assert answer.code == 2
    assert "--steps: no step normalise; nearest is `normalize`; there are" in answer.text
    assert "no step (blank)" in command(made.root, "analyze", "--steps", "aggregate,").text
    with pytest.raises(ConfigError, match="name at least one of aggregate"):
        analyze(made.project, steps=[])
    assert not made.project.profiles_folder.exists()


def test_all_that_was_gathered_is_kept(made: MadeFeatures) -> None:
    project = made.project
    first = gather(project)
    write_aggregated(project, first)
    again, why = read_aggregated(project)
    assert why == ""
    assert again is not None
    assert again.origin == first.origin
    assert (again.failed_sites, again.not_finite) == (first.failed_sites, first.not_finite)
    pd.testing.assert_frame_equal(again.counts, first.counts)
    for ours, theirs in ((again.wells, first.wells), (again.sample, first.sample)):
        pd.testing.assert_frame_equal(ours.metadata, theirs.metadata)
        np.testing.assert_array_equal(ours.features, theirs.features)
        assert ours.names == theirs.names
    assert list(again.controls) == list(LAYERS)
    for layer, moments in first.controls.items():
        assert again.controls[layer].names == moments.names
        assert list(again.controls[layer]) == list(moments)
        for key, found in moments.items():
            kept = again.controls[layer][key]
            assert kept.n == found.n
            np.testing.assert_array_equal(kept.mean, found.mean)
            np.testing.assert_allclose(kept.scatter, found.scatter, rtol=1e-12)


def test_a_screen_of_many_wells_gives_no_more_cells(
    made: MadeFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepprofiler.stages.wells.SAMPLED_CELLS", 20)
    sample = gather(made.project).sample
    assert len(sample) == 20
    wells = sample.metadata[["Metadata_Plate", "Metadata_Well"]]
    assert not wells.duplicated().any()
    monkeypatch.setattr("deepprofiler.stages.wells.SAMPLED_CELLS", 70)
    assert len(gather(made.project).sample) == 64


def test_a_control_well_without_enough_finite_cells_is_in_no_moments(made: MadeFeatures) -> None:
    path = made.project.well_path("P1", "A16")
    well = read_well(path)
    well.features[2:, 0] = np.nan
    write_well(path, well)
    gathered = gather(made.project)
    assert gathered.not_finite == len(well.features) - 2
    assert gathered.wells.values(FLAG).sum() == 1
    for moments in gathered.controls.values():
        groups = {dict(key)["Metadata_Plate"]: found.n for key, found in moments.items()}
        assert groups == {"P1": 3 * len(well.features), "P2": 4 * len(well.features)}


def test_the_report_alone(made: MadeFeatures, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(
        "deepprofiler.stages.analyze.write_report", lambda *parts: drawn.append(parts)
    )
    made.write_config(evaluate=["nsc"])
    steps(made, "normalize")
    before = Profiles.read(made.project.profiles_path("wells.parquet"))
    text = steps(made, "report")
    assert "the report needs an evaluation: evaluating first" in text
    assert "normalizing" not in text
    assert f"next: open {made.project.report_path}" in text
    ((_, gathered, done, *_),) = drawn
    assert gathered.wells.names == [f"conv4a_{i}" for i in range(5)]
    np.testing.assert_array_equal(done.wells.features, before.features)
    # Read from its file, the normalization does what it did.
    again = done.chain.transform(gathered.wells).features
    np.testing.assert_array_equal(again, before.features)
