"""Screens and their scores: what is evaluated, what the tables hold, what permuted labels reach."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import numpy as np
import pandas as pd
import pytest

from deepprofiler.columns import COUNT, FLAG
from deepprofiler.errors import ConfigError, DataError, PluginError
from deepprofiler.evaluation import enrichment, neighbours_table, nsc, nscb
from deepprofiler.evaluation.evaluations import all_evaluations, choose
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
from deepprofiler.parameters import Choice
from deepprofiler.profiling import Profiles, group_means
from deepprofiler.registry import EVALUATIONS, discover

TREATMENT, COMPOUND, MECHANISM = "Metadata_Treatment", "Metadata_Compound", "Metadata_Mechanism"
PLATE, BATCH, CONTROL = "Metadata_Plate", "Metadata_Batch", "Metadata_Control"
NAMES = {"treatment": TREATMENT, "compound": COMPOUND, "mechanism": MECHANISM}
ROLES = NAMES | {"batch": BATCH, "control": CONTROL}
PLATES = ("P1", "P2", "P3", "P4")


def wells_of(*, strength: float = 1.0, seed: int = 0) -> Profiles:
    """Wells on four plates in two batches: 24 treatments of 12 compounds and 4 mechanisms, DMSO.

    Features are the sum of mechanism, compound, batch and noise; each plate's last well is small.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for number, plate in enumerate(PLATES):
        for well in range(28):
            compound = f"c{well // 2}" if well < 24 else "DMSO"
            rows.append(
                {
                    PLATE: plate,
                    "Metadata_Well": f"A{well + 1:02}",
                    BATCH: f"B{number // 2}",
                    COMPOUND: compound,
                    TREATMENT: f"{compound} dose {well % 2}" if well < 24 else "DMSO",
                    MECHANISM: f"m{well // 6}" if well < 24 else "",
                    CONTROL: "" if well < 24 else "negative",
                    COUNT: 50 + len(rows) % 7,
                    FLAG: well == 27,
                }
            )
    mechanism = np.tile(np.append(np.repeat(np.arange(4), 6), [4] * 4), 4)
    compounds = np.tile(np.append(np.repeat(np.arange(12), 2), [12] * 4), 4)
    features = strength * rng.normal(size=(5, 10))[mechanism]
    features += 0.8 * rng.normal(size=(13, 10))[compounds]
    features += 0.7 * rng.normal(size=(2, 10))[np.repeat([0, 0, 1, 1], 28)]
    features += rng.normal(size=features.shape)
    return Profiles(pd.DataFrame(rows), features, [f"f{i}" for i in range(10)])


@pytest.fixture(scope="module")
def screen() -> Screen:
    return Screen(wells_of(), ROLES)


@pytest.fixture(scope="module")
def ours(screen: Screen) -> Scores:
    return score(screen, name="ours")


def chosen(*evaluations: object) -> list[Choice]:
    return [Choice.model_validate(evaluation) for evaluation in evaluations]


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


def test_evaluations_are_chosen_with_parameters(screen: Screen) -> None:
    evaluations = choose(
        chosen(
            "nsc",
            {"name": "k-nn", "params": {"k": 3}},
            {"name": "enrichment", "params": {"percent": 5}},
            {"name": "replicate-map", "params": {"negatives": "others", "exclude": ["plate"]}},
            "gene-accuracy",
        )
    )
    scores = score(screen, evaluations, name="ours")
    assert list(scores.main) == ["nsc"]
    names = ["NSC", "3-NN", "odds ratio of the top 5 %", "mAP of replicates"]
    assert names_of(scores)[:4] == names
    assert "negatives: profiles of other labels" in scores.of("replicate-map")[0].null
    assert scores.undefined == {"gene-accuracy": Undefined("gene accuracy", missing="gene")}


def test_an_evaluation_that_is_listed_twice_is_named_with_its_parameters(screen: Screen) -> None:
    exclude = [
        {"name": "replicate-accuracy", "params": {"exclude": [name]}} for name in ("plate", "well")
    ]
    scores = score(screen, choose(chosen(*exclude)), name="ours")
    # Main are evaluations as they are defined.
    assert not scores.main
    assert list(scores.others) == ["replicate-accuracy (exclude: plate)"]
    assert names_of(scores) == ["replicate accuracy (exclude: plate)"]
    # Each treatment has one well position.
    undefined = scores.undefined["replicate-accuracy (exclude: well)"]
    assert undefined.title == "replicate accuracy (exclude: well)"
    assert isinstance(undefined.error, DataError)
    with pytest.raises(ConfigError, match="replicate-accuracy is listed twice"):
        choose(chosen(exclude[0], exclude[0]))


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ("nscc", "no evaluation `nscc`; nearest is `nsc"),
        ({"name": "k-nn", "params": {"n": 3}}, "`k-nn` has no parameter `n`; valid are k"),
        ({"name": "nsc", "params": {"k": 3}}, "`nsc` has no parameter `k`; it has none"),
        ({"name": "enrichment", "params": {"percent": 100}}, "`enrichment`: percent=100"),
        ({"name": "k-nn", "params": {"k": 0}}, "`k-nn`: k=0; it must be at least 1"),
        ({"name": "replicate-map", "params": {"permutations": 0}}, "permutations=0"),
        ({"name": "percent-replicating", "params": {"percentile": 0}}, "percentile=0"),
        ({"name": "k-nn", "params": {"k": "many"}}, "k-nn.*found 'many'"),
        (
            {"name": "replicate-accuracy", "params": {"exclude": ["batch"]}},
            "exclude contains batch; valid are plate, well",
        ),
    ],
)
def test_parameters_that_cannot_be_used_are_refused(evaluation: object, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        choose(chosen(evaluation))


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


def test_a_blank_batch_is_no_batch() -> None:
    wells = wells_of()
    batches = np.where(wells.values(BATCH) == "B1", "", wells.values(BATCH))
    screen = Screen(wells.with_column(BATCH, batches), ROLES)
    assert screen.batches == 1
    assert set(screen.treatments_by_batch.values(BATCH)) == {"B0"}


def test_small_wells_and_blank_compounds_of_a_screen() -> None:
    wells = wells_of()
    blank = np.where(wells.values(COMPOUND) == "c0", "", wells.values(COMPOUND))
    screen = Screen(wells.with_column(COMPOUND, blank), ROLES)
    assert len(screen.wells) == len(wells) - len(PLATES)
    assert not screen.wells.values(FLAG).any()
    # Two treatments without a compound are two compounds.
    assert {"c0 dose 0", "c0 dose 1"} <= set(screen.treatments.values(COMPOUND))
    assert len(screen.treatments) == 24
    assert len(screen.all_treatments) == 25
    bare = Screen(Profiles(wells.metadata.drop(columns=FLAG), wells.features, wells.names), ROLES)
    assert len(bare.wells) == len(wells)


@pytest.mark.parametrize(("role", "among"), [("mechanism", COMPOUND), ("treatment", None)])
def test_labels_are_permuted_among_what_has_one(screen: Screen, role: str, among: str) -> None:
    column = ROLES[role]
    for permuted in screen.permuted(role, 3):
        assert permuted.shuffled
        table, before = permuted.wells.metadata, screen.wells.metadata
        assert (table[column] != before[column]).any()
        assert sorted(table[column]) == sorted(before[column])
        controls = screen.controls
        assert (table[column][controls] == before[column][controls]).all()
        if among is not None:
            assert table.groupby(among)[column].nunique().max() == 1


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


def test_nearest_treatments(screen: Screen, ours: Scores) -> None:
    neighbours = neighbours_table(screen)
    assert len(neighbours) == 24 * 5
    first = neighbours[neighbours["rank"] == 1]
    assert set(first["treatment"]) == set(screen.treatments.values(TREATMENT))
    matched = (first["group"] == first["neighbour_group"]).mean()
    assert matched == pytest.approx(ours.main["nsc"].value)
    same = [a.split()[0] == b.split()[0] for a, b in neighbours[["treatment", "neighbour"]].values]
    assert not any(same)
    roles = {role: column for role, column in ROLES.items() if role != "mechanism"}
    ungrouped = neighbours_table(Screen(wells_of(), roles))
    assert set(ungrouped["group"]) == set(ungrouped["neighbour_group"]) == {""}
    pd.testing.assert_frame_equal(
        ungrouped.drop(columns=["group", "neighbour_group"]),
        neighbours.drop(columns=["group", "neighbour_group"]),
    )
    broken = wells_of()
    broken.features[0, 0] = np.nan
    assert neighbours_table(Screen(broken, ROLES)).empty


def test_every_evaluation_has_a_title_and_defaults() -> None:
    assert choose([]) == {}
    evaluations = all_evaluations()
    assert set(evaluations) == set(EVALUATIONS.names())
    titles = [evaluation.title for evaluation in evaluations.values()]
    assert len(set(titles)) == len(titles)
    main = [name for name, evaluation in evaluations.items() if evaluation.main]
    assert main == ["nsc", "nscb", "gene-accuracy", "replicate-accuracy"]
    assert list(evaluations)[:4] == main


OWN = """
    from deepprofiler.evaluation import nsc
    from deepprofiler.evaluation.evaluations import Evaluation
    from deepprofiler.registry import EVALUATIONS


    @EVALUATIONS.register("own")
    class Own(Evaluation):
        needs, shuffles, order, main = ("mechanism",), "mechanism", -1, True

        def __init__(self, *, fail: bool = False) -> None:
            self.fail = fail

        def compute(self, screen):
            names = {role: screen.column(role) for role in ("treatment", "compound", "mechanism")}
            return [0.5] if self.fail else [nsc(screen.treatments, **names, controls=None)]


    @EVALUATIONS.register("plain")
    class Plain:
        def compute(self, screen):
            return []
"""


@pytest.fixture
def own_plugins(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "plugins" / "evaluations" / "own.py"
    path.parent.mkdir(parents=True)
    path.write_text(dedent(OWN))
    assert discover(tmp_path / "plugins", (EVALUATIONS,)) == [path]
    yield path
    discover(None, (EVALUATIONS,))


def test_an_evaluation_of_a_project(screen: Screen, own_plugins: Path) -> None:
    evaluations = choose(chosen("own"))
    ours = score(screen, evaluations, name="ours")
    expected = score(screen, choose(chosen("nsc")), name="ours")
    assert ours.main["own"].value == expected.main["nsc"].value
    permuted = shuffled_scores(screen, evaluations)
    assert permuted.main["own"].value < ours.main["own"].value
    failing = choose(chosen({"name": "own", "params": {"fail": True}}))
    with pytest.raises(PluginError, match="compute must return measures, not float; own cannot"):
        score(screen, failing, name="ours")
    with pytest.raises(PluginError, match=r"evaluation `plain` .* must be a subclass of .*Eval"):
        choose(chosen("plain"))


def test_evaluations_of_a_project_are_computed_by_default(
    screen: Screen, own_plugins: Path
) -> None:
    own_plugins.write_text(dedent(OWN.split('@EVALUATIONS.register("plain")')[0]))
    discover(own_plugins.parents[1], (EVALUATIONS,))
    # Its order is the lowest.
    assert next(iter(all_evaluations())) == "own"
    assert next(iter(score(screen, name="ours").main)) == "own"
