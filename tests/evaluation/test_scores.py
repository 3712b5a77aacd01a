"""Scores: what is evaluated, what permuted labels and cell counts reach, and the tables."""

from __future__ import annotations

import numpy as np
import pytest
from small_screen import (
    BATCH,
    COMPOUND,
    CONTROL,
    MECHANISM,
    NAMES,
    PLATE,
    ROLES,
    TREATMENT,
    chosen,
    wells_of,
)

from deepprofiler.columns import COUNT, FLAG
from deepprofiler.errors import DataError
from deepprofiler.evaluation import enrichment, neighbours_table, nsc, nscb
from deepprofiler.evaluation.evaluations import choose
from deepprofiler.evaluation.scores import (
    Scores,
    Undefined,
    average_precision_table,
    confusion_table,
    count_scores,
    score,
    scores_table,
    shuffled_scores,
    wrong_matches_table,
)
from deepprofiler.evaluation.screen import Screen
from deepprofiler.profiling import group_means


@pytest.fixture(scope="module")
def screen() -> Screen:
    return Screen(wells_of(), ROLES)


@pytest.fixture(scope="module")
def ours(screen: Screen) -> Scores:
    return score(screen, name="ours")


def names_of(scores: Scores) -> list[str]:
    return [measure.name for measure in scores.measures]


def test_the_roles_decide_what_is_computed(ours: Scores) -> None:
    assert list(ours.main) == ["nsc", "nscb", "replicate-accuracy"]
    assert list(ours.others) == [
        "drop",
        "k-nn",
        "mechanism-map",
        "enrichment",
        "precision-recall",
        "mechanism-silhouette",
        "replicate-map",
        "percent-replicating",
        "batch-silhouette",
    ]
    assert names_of(ours) == [
        "NSC",
        "NSCB",
        "replicate accuracy",
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
    assert not ours.undefined
    for measure in ours.measures:
        assert measure.exact or measure.by_compound, f"{measure.name} has no interval"
        for interval in (measure.exact, measure.by_compound):
            assert interval is None or interval.low <= measure.value <= interval.high
    lower = [measure.name for measure in ours.measures if measure.lower_is_better]
    assert lower == ["silhouette by batch"]


def test_results_are_those_of_the_library() -> None:
    wells = wells_of()
    ours = score(Screen(wells, ROLES, weight="wells"), name="ours")
    treated = wells.subset((wells.values(CONTROL) == "") & ~wells.values(FLAG))
    options = {"count": COUNT, "members": "Metadata_Well_Count", "weight": "wells"}
    treatments = group_means(treated, list(NAMES.values()), **options)
    by_batch = group_means(treated, [*NAMES.values(), BATCH], **options)
    assert len(treatments) == 24
    same = nsc(treatments, **NAMES, controls=None)
    other = nscb(by_batch, **NAMES, batch=BATCH, controls=None)
    assert (ours.main["nsc"].value, ours.main["nscb"].value) == (same.value, other.value)
    (drop,) = ours.of("drop")
    assert drop.value == pytest.approx(other.value - same.value)
    linked = enrichment(treatments, compound=COMPOUND, mechanism=MECHANISM, controls=None)
    assert ours.of("enrichment")[0].p_value == linked.p_value
    # Negatives and null are in the table.
    null = ours.of("replicate-map")[0].null
    assert "negatives: negative controls; null: candidates in random order" in null
    assert "profiles of other labels" in ours.of("mechanism-map")[0].null


def test_permuted_labels_are_at_chance(screen: Screen, ours: Scores) -> None:
    permuted = shuffled_scores(screen)
    assert list(permuted.main) == ["nsc", "nscb", "replicate-accuracy"]
    assert "percent-replicating" not in permuted.others
    assert all(np.isfinite(measure.value) for measure in permuted.measures)
    # The share of significant labels is not tested again.
    assert len(permuted.of("mechanism-map")) == 2
    for key in ("nsc", "replicate-accuracy", "k-nn", "mechanism-map", "precision-recall"):
        for position, measure in enumerate(permuted.of(key)):
            if measure.name.endswith("normalized"):
                continue
            assert measure.exact.low <= measure.chance <= measure.exact.high
            assert (measure.exact.method, measure.exact.draws) == ("permutations", 20)
            assert ours.of(key)[position].value > measure.exact.high


def test_a_single_number_is_scored_by_its_distance(screen: Screen) -> None:
    counts = count_scores(screen)
    assert {measure.metric for measure in counts.measures} == {"euclidean"}
    assert not counts.undefined


def test_one_batch_and_no_mechanism() -> None:
    wells = wells_of()
    # Plates are the batches then.
    roles = {"treatment": TREATMENT, "compound": COMPOUND, "batch": PLATE, "control": CONTROL}
    scores = score(Screen(wells, roles), name="ours")
    assert list(scores.main) == ["replicate-accuracy"]
    assert "silhouette by plate" in names_of(scores)
    one = Screen(wells.subset(wells.values(PLATE) == "P1"), roles)
    assert one.batches == 1
    scores = score(one, name="ours")
    # No treatment has a second well.
    assert not scores.measures
    assert list(scores.undefined) == ["replicate-accuracy", "replicate-map", "percent-replicating"]
    assert all(isinstance(undefined.error, DataError) for undefined in scores.undefined.values())
    scores = score(one, choose(chosen("nscb", "batch-silhouette")), name="ours")
    assert scores.undefined == {
        "nscb": Undefined("NSCB", missing="mechanism"),
        "batch-silhouette": Undefined("silhouette by batch", missing="batch"),
    }
    nothing = score(Screen(wells, {"batch": PLATE, "control": CONTROL}), name="ours")
    assert not nothing.measures
    assert not nothing.undefined


def test_tables(screen: Screen, ours: Scores) -> None:
    scores = scores_table([ours, count_scores(screen)]).set_index(["method", "metric"])
    assert len(scores) == 2 * len(ours.measures)
    assert scores.loc[("ours", "NSC"), "value"] == ours.main["nsc"].value
    assert scores.loc[("ours", "odds ratio of the top 1 %"), "p_value"] > 0
    assert (scores["null"] != "").all()
    confusion = confusion_table(ours).groupby("metric")["units"].sum()
    assert confusion["NSC"] == pytest.approx(24)
    assert confusion["replicate accuracy"] == pytest.approx(96)
    wrong = wrong_matches_table(ours)
    assert set(wrong["metric"]) == {"NSC", "NSCB", "5-NN"}
    nsc_wrong = wrong[wrong["metric"] == "NSC"]
    assert len(nsc_wrong) == round(24 * (1 - ours.main["nsc"].value))
    assert (nsc_wrong["label"] != nsc_wrong["nearest_label"]).all()
    tested = average_precision_table(ours).groupby("metric")["label"].nunique()
    assert tested.to_dict() == {"mAP of mechanisms": 4, "mAP of replicates": 24}


def test_columns_of_files_stay_as_they_are() -> None:
    """Scripts of users read them."""
    empty = Scores("ours", "")
    tables = {
        "method,metric,value,n,unit,left_out,low,high,low_over_compounds,high_over_compounds,"
        "chance,p_value,similarity,null": scores_table([empty]),
        "metric,label,predicted,units": confusion_table(empty),
        "metric,unit,label,nearest,nearest_label,similarity,right": wrong_matches_table(empty),
        "metric,label,queries,average_precision,normalized,p_value,corrected_p_value": (
            average_precision_table(empty)
        ),
        "treatment,group,rank,neighbour,neighbour_group,similarity": neighbours_table(
            Screen(wells_of().subset(np.zeros(0, int)), ROLES)
        ),
    }
    for header, table in tables.items():
        assert table.to_csv(index=False).splitlines() == [header]
