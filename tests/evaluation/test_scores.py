"""The evaluations of `analyze`: which are computed, what tables they give, what shuffles reach."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from deepprofiler.columns import COUNT, FLAG
from deepprofiler.errors import ConfigError
from deepprofiler.evaluation import enrichment, nsc, nscb
from deepprofiler.evaluation.evaluations import EVALUATIONS, choose
from deepprofiler.evaluation.scores import (
    Scores,
    count_scores,
    score,
    shuffled_scores,
    write_scores,
)
from deepprofiler.evaluation.screen import Screen
from deepprofiler.profiling import Profiles, group_means
from deepprofiler.project import Project

TREATMENT, COMPOUND, MECHANISM = "Metadata_Treatment", "Metadata_Compound", "Metadata_Mechanism"
BATCH, CONTROL = "Metadata_Batch", "Metadata_Control"
ROLES = {"treatment": TREATMENT, "compound": COMPOUND, "mechanism": MECHANISM}
PLATES = ("P1", "P2", "P3", "P4")


def layout() -> pd.DataFrame:
    """Four plates in two batches: 24 treatments of twelve compounds and four mechanisms, DMSO."""
    rows = []
    for number, plate in enumerate(PLATES):
        for well in range(28):
            compound = f"c{well // 2}" if well < 24 else "DMSO"
            rows.append(
                {
                    "Metadata_Plate": plate,
                    "Metadata_Well": f"A{well + 1:02}",
                    "Metadata_Site": "1",
                    "DNA": f"{plate}/{well}.tif",
                    BATCH: f"B{number // 2}",
                    COMPOUND: compound,
                    TREATMENT: f"{compound} dose {well % 2}" if well < 24 else "DMSO",
                    MECHANISM: f"m{well // 6}" if well < 24 else "",
                    CONTROL: "" if well < 24 else "negative",
                }
            )
    return pd.DataFrame(rows)


def project_of(root: Path, *, drop: tuple[str, ...] = (), **analyze: object) -> Project:
    (root / "inputs" / "metadata").mkdir(parents=True)
    (root / "inputs" / "config").mkdir()
    layout().drop(columns=list(drop)).to_csv(root / "inputs/metadata/index.csv", index=False)
    config = {"dataset": {"channels": ["DNA"]}, "analyze": analyze}
    (root / "inputs/config/config.yaml").write_text(yaml.safe_dump(config))
    return Project(root)


def wells_of(project: Project, *, strength: float = 1.0, seed: int = 0) -> Profiles:
    """Profiles of all wells: mechanism, compound, batch, noise; each plate's last well is small."""
    rng = np.random.default_rng(seed)
    table = layout().drop(columns=["Metadata_Site", "DNA"])
    table = table[[c for c in table if c in project.index.well_table().columns]]
    mechanism = np.tile(np.append(np.repeat(np.arange(4), 6), [4] * 4), 4)
    compound = np.tile(np.append(np.repeat(np.arange(12), 2), [12] * 4), 4)
    features = strength * rng.normal(size=(5, 10))[mechanism]
    features += 0.8 * rng.normal(size=(13, 10))[compound]
    features += 0.7 * rng.normal(size=(2, 10))[np.repeat([0, 0, 1, 1], 28)]
    features += rng.normal(size=features.shape)
    table[COUNT] = 50 + np.arange(len(table)) % 7
    table[FLAG] = np.arange(len(table)) % 28 == 27
    return Profiles(table, features, [f"f{i}" for i in range(10)])


def test_the_index_decides_what_is_computed(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    found = score(project, wells_of(project), name="ours", about="")
    assert list(found.results) == ["NSC", "NSCB", "replicate accuracy"]
    assert list(found.measures) == [
        "drop from NSC to NSCB",
        "5-NN",
        "mAP of mechanisms",
        "mAP of mechanisms, normalized",
        "mAP of mechanisms, share with corrected p < 0.05",
        "odds ratio of the top 1 %",
        "precision at 10",
        "recall at 10",
        "silhouette by mechanism",
        "mAP of replicates",
        "mAP of replicates, normalized",
        "mAP of replicates, share with corrected p < 0.05",
        "percent replicating",
        "silhouette by batch",
    ]
    assert not found.undefined
    for measure in found.all:
        assert measure.exact or measure.by_compound, f"{measure.name} has no interval"
        for interval in (measure.exact, measure.by_compound):
            assert interval is None or interval.low <= measure.value <= interval.high


def test_results_are_those_of_the_library(tmp_path: Path) -> None:
    project = project_of(tmp_path, weight="wells")
    wells = wells_of(project)
    found = score(project, wells, name="ours", about="")
    treated = wells.subset((wells.values(CONTROL) == "") & ~wells.values(FLAG))
    options = {"count": COUNT, "members": "Metadata_Well_Count", "weight": "wells"}
    treatments = group_means(treated, list(ROLES.values()), **options)
    by_batch = group_means(treated, [*ROLES.values(), BATCH], **options)
    assert len(treatments) == 24
    assert found.results["NSC"].value == nsc(treatments, **ROLES, controls=None).value
    expected = nscb(by_batch, **ROLES, batch=BATCH, controls=None)
    assert found.results["NSCB"].value == expected.value
    drop = found.measures["drop from NSC to NSCB"]
    assert drop.value == pytest.approx(expected.value - found.results["NSC"].value)
    linked = enrichment(treatments, compound=COMPOUND, mechanism=MECHANISM, controls=None)
    assert found.measures["odds ratio of the top 1 %"].p_value == linked.p_value
    # The case EVL-05: negatives and null stand in the table.
    null = found.measures["mAP of replicates"].null
    assert "negatives: negative controls; null: candidates in random order" in null
    assert "profiles of other labels" in found.measures["mAP of mechanisms"].null


def test_shuffled_labels_are_at_chance(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    wells = wells_of(project)
    found, ours = shuffled_scores(project, wells), score(project, wells, name="ours", about="")
    assert list(found.results) == ["NSC", "NSCB", "replicate accuracy"]
    assert "percent replicating" not in found.measures
    assert all(np.isfinite(measure.value) for measure in found.all)
    for name in ("NSC", "replicate accuracy"):
        result = found.results[name]
        assert result.exact.low <= result.chance <= result.exact.high
        assert result.exact.method == "range of 20 shuffles"
        assert ours.results[name].value > result.exact.high
    for name in ("5-NN", "mAP of mechanisms", "precision at 10", "recall at 10"):
        measure = found.measures[name]
        assert measure.exact.low <= measure.chance <= measure.exact.high
        assert ours.measures[name].value > measure.exact.high


def test_a_single_number_is_scored_by_its_distance(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    found = count_scores(project, wells_of(project))
    assert {measure.metric for measure in found.all} == {"euclidean"}
    assert not found.undefined


def test_the_config_chooses(tmp_path: Path) -> None:
    project = project_of(
        tmp_path,
        evaluate=[
            "nsc",
            {"name": "k-nn", "params": {"k": 3}},
            {"name": "enrichment", "params": {"percent": 5}},
            {"name": "replicate-map", "params": {"negatives": "others", "exclude": ["plate"]}},
            "gene-accuracy",
        ],
    )
    found = score(project, wells_of(project), name="ours", about="")
    assert list(found.results) == ["NSC"]
    assert list(found.measures)[:3] == ["3-NN", "odds ratio of the top 5 %", "mAP of replicates"]
    assert "negatives: profiles of other labels" in found.measures["mAP of replicates"].null
    assert found.undefined == {
        "gene accuracy": "the index has no gene; name its column in dataset.columns.gene"
    }


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("nscc", "no evaluation nscc; nearest is `nsc"),
        ({"name": "k-nn", "params": {"n": 3}}, "k-nn has no parameter n; it has: k"),
        ({"name": "nsc", "params": {"k": 3}}, "nsc has no parameter k; it has none"),
        ({"name": "k-nn", "params": {"k": 0}}, "k-nn: k=0; at least one"),
        ({"name": "k-nn", "params": {"k": "many"}}, "k-nn: .*str"),
        ({"name": "enrichment", "params": {"percent": 100}}, "enrichment: percent=100"),
        (
            {"name": "replicate-accuracy", "params": {"exclude": ["batch"]}},
            "exclude holds batch; it can hold: plate, well",
        ),
    ],
)
def test_what_cannot_be_computed_is_refused(tmp_path: Path, asked: object, message: str) -> None:
    project = project_of(tmp_path, evaluate=[asked])
    with pytest.raises(ConfigError, match=message):
        score(project, wells_of(project), name="ours", about="")


def test_one_batch_and_no_mechanism(tmp_path: Path) -> None:
    project = project_of(tmp_path / "a", drop=(BATCH, MECHANISM))
    wells = wells_of(project)
    found = score(project, wells, name="ours", about="")
    # Plates are the batches then.
    assert list(found.results) == ["replicate accuracy"]
    assert "silhouette by plate" in found.measures
    one = wells.subset(wells.values("Metadata_Plate") == "P1")
    found = score(project, one, name="ours", about="")
    # No treatment has a second well.
    assert not found.all
    assert list(found.undefined) == [
        "replicate accuracy",
        "mAP of replicates",
        "percent replicating",
    ]
    bare = project_of(tmp_path / "b", drop=(BATCH, MECHANISM, COMPOUND, TREATMENT))
    nothing = score(bare, wells_of(bare), name="ours", about="")
    assert not nothing.all
    assert not nothing.undefined


def test_tables(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    wells = wells_of(project)
    ours = score(project, wells, name="ours", about="")
    write_scores(project, [ours, count_scores(project, wells)], Screen.of(project, wells))

    def read(name: str) -> pd.DataFrame:
        return pd.read_csv(project.profiles_path(name))

    scores = read("scores.csv").set_index(["method", "metric"])
    assert len(scores) == 2 * len(ours.all)
    assert scores.loc[("ours", "NSC"), "value"] == pytest.approx(ours.results["NSC"].value)
    assert scores.loc[("ours", "odds ratio of the top 1 %"), "p_value"] > 0
    assert scores["null"].notna().all()
    confusion = read("confusion.csv").groupby("metric")["units"].sum()
    assert confusion["NSC"] == pytest.approx(24)
    assert confusion["replicate accuracy"] == pytest.approx(96)
    wrong = read("wrong-matches.csv")
    assert set(wrong["metric"]) == {"NSC", "NSCB", "5-NN"}
    nsc_wrong = wrong[wrong["metric"] == "NSC"]
    assert len(nsc_wrong) == round(24 * (1 - ours.results["NSC"].value))
    assert (nsc_wrong["label"] != nsc_wrong["nearest_label"]).all()
    neighbours = read("neighbours.csv")
    assert len(neighbours) == 24 * 5
    first = neighbours[neighbours["rank"] == 1]
    matched = (first["group"] == first["neighbour_group"]).mean()
    assert matched == pytest.approx(ours.results["NSC"].value)
    tested = read("average-precision.csv").groupby("metric")["label"].nunique()
    assert tested.to_dict() == {"mAP of mechanisms": 4, "mAP of replicates": 24}


def test_nothing_computed_leaves_empty_tables(tmp_path: Path) -> None:
    project = project_of(tmp_path, drop=(BATCH, MECHANISM, COMPOUND, TREATMENT))
    write_scores(project, [Scores("ours", "")], Screen.of(project, wells_of(project)))
    for name in ("scores.csv", "confusion.csv", "wrong-matches.csv", "average-precision.csv"):
        table = pd.read_csv(project.profiles_path(name))
        assert len(table) == 0
        assert len(table.columns) > 3


def test_every_evaluation_has_a_name_and_defaults() -> None:
    assert [one.title for one in choose([])] == []
    titles = [one.title for one in EVALUATIONS.values()]
    assert len(set(titles)) == len(titles)
