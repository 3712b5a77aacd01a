"""`analyze --steps`: each step alone, what it reads and writes, and when it is done again."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from command import command
from made_features import MadeFeatures

from deepprofiler.columns import CELL, FLAG, SITE
from deepprofiler.commands.analyze import analyze
from deepprofiler.commands.analyze.aggregate import aggregate_wells, average_wells
from deepprofiler.commands.check import check
from deepprofiler.commands.run import run
from deepprofiler.errors import ConfigError, DataError, PluginError
from deepprofiler.profiling import Chain, Profiles
from deepprofiler.profiling.chain import make_chain
from deepprofiler.project.outcome import Outcome
from deepprofiler.project.well_file import read_well, write_well

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


def test_single_steps_give_the_same_as_all_at_once(made: MadeFeatures) -> None:
    assert command(made.root, "analyze").code == 0
    at_once = contents(made)
    assert set(at_once) == {name for name in AGGREGATE | NORMALIZE | EVALUATE if ".npz" not in name}
    shutil.rmtree(made.project.profiles_folder)
    for name in ("aggregate", "normalize", "evaluate"):
        steps(made, name)
    assert contents(made) == at_once


def test_missing_results_are_made_first(made: MadeFeatures) -> None:
    text = steps(made, "evaluate")
    assert "wells are not aggregated yet: aggregating first" in text
    assert "wells are not normalized yet: normalizing first" in text
    assert files(made) == AGGREGATE | NORMALIZE | EVALUATE


def test_outdated_results_are_made_again(made: MadeFeatures) -> None:
    made.write_config(evaluate=["nsc"])
    steps(made, "normalize, evaluate")
    made.write_config(evaluate=["nsc"], normalize=["standardize"])
    text = steps(made, "evaluate")
    assert "aggregating" not in text
    assert (
        "normalizing first: analyze.normalize was ['standardize', 'tvn'] and is ['standardize']"
        in text
    )
    made.write_config(
        evaluate=["nsc"], normalize=[{"name": "standardize", "params": {"per": "screen"}}]
    )
    assert "analyze.normalize[0] standardize.per was auto and is screen" in steps(made, "evaluate")
    made.write_config(evaluate=["nsc"], normalize=["standardize"], layer="pool5")
    assert "analyze.layer was conv4a and is pool5" in steps(made, "evaluate")
    made.write_config(
        evaluate=["nsc"], normalize=["standardize"], layer="pool5", aggregate="median"
    )
    text = steps(made, "evaluate")
    assert "aggregating first: analyze.aggregate was mean and is median" in text
    assert "normalizing first: averages of wells changed" in text
    made.write_index([row | {"Metadata_Mechanism": "m"} for row in made.rows])
    assert "aggregating first: metadata of the wells changed" in steps(made, "evaluate")
    made.write_features(digest="1")
    assert "aggregating first: 32 well files changed" in steps(made, "evaluate")
    assert "first" not in steps(made, "evaluate")


def test_another_time_of_a_well_file_is_no_change(made: MadeFeatures) -> None:
    """As after a copy of the project; new contents are a change, even with the old time."""
    steps(made, "normalize")
    path = made.project.well_path("P1", "A01")
    written = path.stat().st_mtime_ns
    os.utime(path, ns=(written - 10**12, written - 10**12))
    assert "first" not in steps(made, "evaluate")
    well = read_well(path)
    well.features[0, 0] += 1
    write_well(path, well)
    text = steps(made, "evaluate")
    assert "aggregating first: 1 well file changed" in text
    assert "normalizing first: averages of wells changed" in text


def test_the_same_averages_are_not_normalized_again(made: MadeFeatures) -> None:
    steps(made, "normalize")
    assert "first" not in steps(made, "aggregate")
    assert "first" not in steps(made, "evaluate")


def test_columns_of_the_roles_decide_the_averages(made: MadeFeatures) -> None:
    rows = [row | {"Metadata_Week": row["Metadata_Plate"]} for row in made.rows]
    made.write_index(rows)
    steps(made, "normalize")
    path = made.root / "inputs/config/config.yaml"
    config = yaml.safe_load(path.read_text())
    config["dataset"]["columns"] = {"batch": "Week"}
    path.write_text(yaml.safe_dump(config))
    text = steps(made, "evaluate")
    assert "dataset.columns.batch was Metadata_Plate and is Metadata_Week" in text


def test_damaged_results_are_made_again(made: MadeFeatures) -> None:
    steps(made, "normalize")
    made.project.profiles_path("wells.parquet").unlink()
    assert "normalized wells cannot be read" in steps(made, "evaluate")
    path = made.project.profiles_path("aggregate.npz")
    whole = path.read_bytes()
    for damaged in (whole[:100], b""):
        path.write_bytes(damaged)
        assert "the averages of wells cannot be read" in steps(made, "evaluate")
    assert "first" not in steps(made, "evaluate")


def write_version_2(made: MadeFeatures) -> None:
    """Write ``aggregate.npz`` in the form of the release before."""
    path = made.project.profiles_path("aggregate.npz")
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    header = json.loads(str(arrays.pop("about")))
    features = json.loads(header.pop("features"))
    for name in ("trained", "made_from"):
        del features[name]
    made_from = json.loads(header.pop("made_from"))
    settings, states = made_from["settings"], made_from["files"].values()
    header |= {
        "version": 2,
        "origin": json.dumps(features | {"inputs": "", "versions": {}}),
        "sites": made_from["inputs"]["sites of the index"],
        "settings": {
            "aggregate": settings["analyze.aggregate"],
            "min_cells": settings["analyze.min_cells"],
            "seed": settings["dataset.seed"],
            "crops": {"size": 64, "rescale": "min-max"},
            "batch": settings["dataset.columns.batch"],
            "control": [settings["dataset.columns.control"], settings["dataset.control"]],
        },
    }
    files = np.array([state[:2] for state in states], np.int64)
    np.savez(path, allow_pickle=False, about=np.array(json.dumps(header)), files=files, **arrays)


def test_averages_of_the_release_before_are_read(made: MadeFeatures) -> None:
    steps(made, "aggregate")
    first = aggregate_wells(made.project, Outcome("analyze"))
    write_version_2(made)
    outcome = Outcome("analyze")
    again = aggregate_wells(made.project, outcome)
    assert outcome.wrote == []
    np.testing.assert_array_equal(again.wells.features, first.wells.features)
    assert again.provenance == first.provenance
    made.write_config(aggregate="median")
    text = steps(made, "normalize")
    assert "aggregating first: analyze.aggregate was mean and is median" in text
    made.write_config()
    steps(made, "aggregate")
    write_version_2(made)
    made.write_features(digest="1")
    assert "aggregating first: 32 well files changed" in steps(made, "normalize")
    steps(made, "aggregate")
    write_version_2(made)
    shutil.rmtree(made.project.features_folder())
    assert "first" not in steps(made, "normalize")


def test_steps_that_do_not_exist_are_refused(made: MadeFeatures) -> None:
    answer = command(made.root, "analyze", "--steps", "aggregate,normalise")
    assert answer.code == 2
    assert "--steps: no step normalise; nearest is `normalize`; there are" in answer.text
    assert "no step (blank)" in command(made.root, "analyze", "--steps", "aggregate,").text
    with pytest.raises(ConfigError, match="name at least one of aggregate"):
        analyze(made.project, steps=[])
    assert not made.project.profiles_folder.exists()


def test_averages_on_disk_are_those_that_were_computed(made: MadeFeatures) -> None:
    project = made.project
    first = average_wells(project)
    outcome = Outcome("analyze")
    assert aggregate_wells(project, outcome).made_from.files
    shutil.rmtree(project.features_folder())
    again = aggregate_wells(project, outcome)
    assert len(outcome.wrote) == 1
    assert again.provenance == first.provenance
    assert again.made_from.settings == first.made_from.settings
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
        for key, group in moments.items():
            kept = again.controls[layer][key]
            assert kept.n == group.n
            np.testing.assert_array_equal(kept.mean, group.mean)
            np.testing.assert_allclose(kept.scatter, group.scatter, rtol=1e-12)


def test_a_screen_of_many_wells_gives_no_more_cells(
    made: MadeFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepprofiler.commands.analyze.aggregate.SAMPLED_CELLS", 20)
    sample = average_wells(made.project).sample
    assert len(sample) == 20
    wells = sample.metadata[["Metadata_Plate", "Metadata_Well"]]
    assert not wells.duplicated().any()
    monkeypatch.setattr("deepprofiler.commands.analyze.aggregate.SAMPLED_CELLS", 70)
    assert len(average_wells(made.project).sample) == 64


def test_a_control_well_without_enough_finite_cells_is_in_no_moments(made: MadeFeatures) -> None:
    path = made.project.well_path("P1", "A16")
    well = read_well(path)
    well.features[2:, 0] = np.nan
    write_well(path, well)
    aggregated = average_wells(made.project)
    assert aggregated.not_finite == len(well.features) - 2
    assert aggregated.wells.values(FLAG).sum() == 1
    for moments in aggregated.controls.values():
        groups = {dict(key)["Metadata_Plate"]: group.n for key, group in moments.items()}
        assert groups == {"P1": 3 * len(well.features), "P2": 4 * len(well.features)}


def test_the_report_alone(made: MadeFeatures, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(
        "deepprofiler.commands.analyze.write_report", lambda *parts: drawn.append(parts)
    )
    made.write_config(evaluate=["nsc"])
    steps(made, "normalize")
    before = Profiles.read(made.project.profiles_path("wells.parquet"))
    text = steps(made, "report")
    assert "the report needs scores: evaluating first" in text
    assert "normalizing" not in text
    assert f"next: open {made.project.report_path}" in text
    ((_, aggregated, normalized, *_),) = drawn
    assert aggregated.wells.names == [f"conv4a_{i}" for i in range(5)]
    np.testing.assert_array_equal(normalized.wells.features, before.features)
    # Read from its file, the normalization does what it did.
    again = normalized.chain.transform(aggregated.wells).features
    np.testing.assert_array_equal(again, before.features)


def test_an_interrupted_normalization_is_done_again(
    made: MadeFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wells of one fit and steps of another are never taken together."""
    made.write_config(evaluate=["nsc"])
    steps(made, "normalize")
    made.write_config(evaluate=["nsc"], normalize=["standardize"])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Chain, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            analyze(made.project, steps=["normalize"])
    made.write_config(evaluate=["nsc"])
    assert "wells are not normalized yet: normalizing first" in steps(made, "evaluate")


def test_features_of_other_crops_are_refused(made: MadeFeatures) -> None:
    path = made.project.well_path("P2", "A03")
    well = read_well(path)
    for change, said in (
        ({"crop_size": 96}, "A03.h5 was made from crops of 96 pixels"),
        ({"rescale": "none"}, "rescaled by none"),
        ({"channels": ("ER",)}, "channels ER; plate P1 well A01 from .* channels DNA"),
    ):
        write_well(path, replace(well, provenance=replace(well.provenance, **change)))
        with pytest.raises(DataError, match=said):
            analyze(made.project)
    write_well(path, well)
    config = made.root / "inputs/config/config.yaml"
    config.write_text(config.read_text().replace("size: 64", "size: 96"))
    with pytest.raises(DataError, match=r"were made from crops of 64 .* asks for crops of 96"):
        analyze(made.project)


def test_sites_that_are_not_in_the_index_are_left_out(made: MadeFeatures) -> None:
    steps(made, "aggregate")
    gone = [
        row
        for row in made.rows
        if (row["Metadata_Plate"], row["Metadata_Well"], row["Metadata_Site"]) != ("P1", "A02", "2")
    ]
    made.write_index(gone)
    text = steps(made, "evaluate")
    assert "aggregating first: sites of the index changed" in text
    assert "left out the cells of 1 site not in the index" in text
    wells = Profiles.read(made.project.profiles_path("wells-unnormalized.parquet"))
    assert wells.values("Metadata_Cell_Count")[:3].tolist() == [20, 10, 20]
    cells = read_well(made.project.well_path("P1", "A02"))
    own = cells.features[(cells.cells[SITE] == "1").to_numpy()]
    np.testing.assert_allclose(wells.features[1], own.mean(axis=0), rtol=1e-6)
    sample = Profiles.read(made.project.profiles_path("cells.parquet")).metadata
    assert set(sample.loc[sample["Metadata_Well"] == "A02", "Metadata_Site"]) >= {"1"}
    one = sample[(sample["Metadata_Well"] == "A02") & (sample["Metadata_Plate"] == "P1")]
    assert set(one["Metadata_Site"]) == {"1"}


def test_wells_without_a_treatment_are_in_no_treatment_profile(made: MadeFeatures) -> None:
    """Counted, and neither a profile nor anybody's neighbour."""
    rows = [
        row | {"Metadata_Treatment": "", "Metadata_Compound": "", "Metadata_Mechanism": ""}
        if row["Metadata_Well"] in ("A03", "A04")
        else row
        for row in made.rows
    ]
    made.write_index(rows)
    made.write_config(evaluate=["nsc", "percent-replicating", "replicate-accuracy"])
    text = steps(made, "evaluate")
    assert "4 wells with a blank treatment: left out of the profiles of treatments" in text
    treatments = Profiles.read(made.project.profiles_path("treatments.parquet"))
    assert len(treatments) == 11
    assert "" not in treatments.values("Metadata_Treatment")
    near = pd.read_csv(made.project.profiles_path("neighbours.csv"), keep_default_na=False)
    assert "" not in {*near["treatment"], *near["neighbour"]}
    scores = pd.read_csv(made.project.profiles_path("scores.csv")).set_index("metric")
    learned = scores[scores["method"] == "the learned profile"]
    assert learned.loc["percent replicating", "n"] == 10
    assert learned.loc["replicate accuracy", ["n", "left_out"]].tolist() == [20, 4]


def test_a_blank_compound_is_not_one_compound(made: MadeFeatures) -> None:
    made.write_index([row | {"Metadata_Compound": ""} for row in made.rows])
    made.write_config(evaluate=["nsc"])
    steps(made, "evaluate")
    scores = pd.read_csv(made.project.profiles_path("scores.csv"))
    assert scores.loc[0, ["n", "left_out"]].tolist() == [12, 0]


def test_controls_alone_make_a_report(made: MadeFeatures) -> None:
    made.write_index([row for row in made.rows if row["Metadata_Control"]])
    made.write_config(report=True, evaluate=None)
    outcome = analyze(made.project)
    assert outcome.exit_code == 0
    assert made.project.report_path.exists()


def test_results_that_no_longer_apply_are_removed(made: MadeFeatures) -> None:
    made.write_config(report=True)
    analyze(made.project)
    profiles, report = made.project.profiles_folder, made.project.report_folder
    assert (profiles / "neighbours.csv").exists()
    assert (report / "confusion-nsc.svg").exists()
    (report / "mine.csv").write_text("a\n1\n")
    names = ("Metadata_Treatment", "Metadata_Compound", "Metadata_Mechanism")
    made.write_index([{k: v for k, v in row.items() if k not in names} for row in made.rows])
    analyze(made.project)
    assert not (profiles / "neighbours.csv").exists()
    assert not (profiles / "treatments.parquet").exists()
    assert not list(report.glob("confusion*"))
    assert (report / "mine.csv").exists()
    assert (report / "map-wells.png").exists()


def test_a_dominant_feature_is_a_warning(
    made: MadeFeatures, caplog: pytest.LogCaptureFixture
) -> None:
    made.write_config(normalize=[], evaluate=["nsc"])
    for path in made.root.glob("outputs/results/features/*/*.h5"):
        well = read_well(path)
        well.features[:, 1] *= 100
        write_well(path, well)
    analyze(made.project)
    assert "conv4a_1 makes up 100 % of the length of the normalized profiles" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"normalize": ["tvnn"]}, "no normalizer `tvnn`; nearest is `tvn`"),
        (
            {"normalize": [{"name": "harmony", "params": {"batch": None}}]},
            "harmony`: batch: input",
        ),
        ({"normalize": [{"name": "harmony", "params": {"clusters": 2.5}}]}, "clusters: .* 2.5"),
        (
            {"normalize": [{"name": "tvn", "params": {"batch": ["a"]}}]},
            r"`tvn`: batch: .*\['a'\]",
        ),
        (
            {"normalize": [{"name": "cell-count", "params": {"count": None}}]},
            "`cell-count`: count: .*found None",
        ),
        (
            {"normalize": [{"name": "well-position", "params": {"well": 3}}]},
            "well: .*found 3",
        ),
        ({"evaluate": [{"name": "k-nn", "params": {"k": 2.5}}]}, "k-nn`: k: .*found 2.5"),
        ({"evaluate": [{"name": "precision-recall", "params": {"k": "x"}}]}, "k: .*found 'x'"),
    ],
)
def test_wrong_values_are_refused_before_anything_is_computed(
    made: MadeFeatures, settings: dict[str, object], message: str
) -> None:
    made.write_config(**settings)
    for stage in (analyze, run):
        with pytest.raises(PluginError, match=message):
            stage(made.project)
    assert not made.project.profiles_folder.exists()
    text = "\n".join(check(made.project).lines())
    assert re.search(f"problem: analyze: .*{message}", text)


def test_steps_draw_by_the_seed_of_the_config() -> None:
    chain = make_chain([("harmony", {})], plate="Metadata_Plate", batch="Metadata_Plate", seed=7)
    assert chain.steps[0].params()["seed"] == 7


def test_a_well_without_cells_has_no_sites(made: MadeFeatures) -> None:
    """As `profile` writes it where every site failed."""
    path = made.project.well_path("P1", "A02")
    well = read_well(path)
    empty = pd.DataFrame({CELL: np.empty(0, int), "x": np.empty(0), "y": np.empty(0)})
    write_well(path, replace(well, features=well.features[:0], cells=empty))
    text = steps(made, "evaluate")
    assert "1 well without cells: only in counts.csv" in text


def test_a_file_of_another_well_is_refused(made: MadeFeatures) -> None:
    shutil.copyfile(*(made.project.well_path("P1", name) for name in ("A05", "A01")))
    with pytest.raises(DataError, match=r"A01\.h5 holds plate P1 well A05"):
        analyze(made.project)


def test_an_evaluation_with_two_sets_of_parameters(made: MadeFeatures) -> None:
    other = {"name": "replicate-accuracy", "params": {"exclude": ["plate"]}}
    made.write_config(evaluate=["replicate-accuracy", other])
    steps(made, "evaluate")
    scores = pd.read_csv(made.project.profiles_path("scores.csv"))
    learned = scores[scores["method"] == "the learned profile"]
    assert learned["metric"].tolist() == [
        "replicate accuracy",
        "replicate accuracy (exclude: plate)",
    ]
    made.write_config(evaluate=[other, other])
    with pytest.raises(ConfigError, match="replicate-accuracy is listed twice"):
        analyze(made.project)


def test_a_blank_batch_is_not_known(made: MadeFeatures) -> None:
    rows = made.rows
    for row in rows:
        row["Metadata_Batch"] = "1" if row["Metadata_Plate"] == "P1" else ""
    made.write_index(rows)
    made.write_config(evaluate=["nsc", "nscb"])
    assert "all wells are of one batch" in steps(made, "evaluate")


def test_why_shuffled_labels_have_no_value(made: MadeFeatures) -> None:
    rows = [
        row | {"Metadata_Mechanism": "m3"}
        if (row["Metadata_Plate"], row["Metadata_Compound"]) == ("P1", "c1")
        else row
        for row in made.rows
    ]
    made.write_index(rows)
    made.write_config(evaluate=["nsc"], baselines=True)
    # Random weights need images, which there are none of.
    text = "\n".join(analyze(made.project).lines())
    assert "shuffled labels: NSC: " in text


def test_baselines_of_an_earlier_release_are_used_as_they_are(made: MadeFeatures) -> None:
    """Where no file says what its features were made from, no image is read again."""
    for well in made.project.index.wells():
        stored = read_well(made.project.well_path(well.plate, well.well))
        path = made.project.well_path(well.plate, well.well, "random-0")
        path.parent.mkdir(parents=True, exist_ok=True)
        untrained = replace(stored.provenance, digest="1", checkpoint="random-0", trained=False)
        write_well(path, replace(stored, features=-stored.features, provenance=untrained))
    made.write_config(evaluate=["nsc"], baselines=True)
    text = steps(made, "evaluate")
    assert "are of an earlier release: used as they are" in text
    scores = pd.read_csv(made.project.profiles_path("scores.csv"))
    assert "random weights" in set(scores["method"])


def test_a_file_of_weights_may_be_called_random(made: MadeFeatures) -> None:
    """Whether weights were trained is data, not a matter of their name."""
    for well in made.project.index.wells():
        path = made.project.well_path(well.plate, well.well)
        stored = read_well(path)
        write_well(
            path,
            replace(stored, provenance=replace(stored.provenance, checkpoint="random-forest.h5")),
        )
    made.write_config(evaluate=["nsc"])
    steps(made, "evaluate")
    scores = pd.read_csv(made.project.profiles_path("scores.csv"))
    assert set(scores["method"]) == {"the learned profile", "without normalization"}
