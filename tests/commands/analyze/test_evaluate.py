"""The step `evaluate`: the same features under other normalizations."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from made_features import MadeFeatures

from deepprofiler.commands.analyze.aggregate import average_wells
from deepprofiler.commands.analyze.evaluate import PLAIN, Protocol, score_normalizations
from deepprofiler.commands.analyze.normalize import normalize_wells
from deepprofiler.evaluation.scores import Scores, score
from deepprofiler.project import Project
from deepprofiler.project.outcome import Outcome
from deepprofiler.report.sections import measures_table

TVN, STANDARDIZED = "standardize + tvn", "standardize"


def own_scores(project: Project) -> Scores:
    """Scores of the configured normalization."""
    aggregated, protocol = average_wells(project).of_layer("conv4a"), Protocol.of(project)
    normalized = normalize_wells(project, aggregated, Outcome("analyze"), again=True)
    return score(protocol.screen(normalized.wells), protocol.evaluations, name="own")


def normalizations(project: Project, own: Scores) -> dict[str, Scores]:
    aggregated, protocol = average_wells(project).of_layer("conv4a"), Protocol.of(project)
    normalized = normalize_wells(project, aggregated, Outcome("analyze"))
    return score_normalizations(protocol, aggregated, normalized, own, every=True, notes=[])


def test_normalizations_beside_the_configured_one(tmp_path: Path) -> None:
    settings = {"baselines": True, "evaluate": ["nsc", "batch-silhouette"]}
    project = MadeFeatures(tmp_path, {"conv4a": 6}, plates=3, settings=settings).write().project
    own = own_scores(project)
    scores = normalizations(project, own)
    expected = [PLAIN, STANDARDIZED, TVN]
    expected += ["standardize + harmony"] if find_spec("harmonypy") else []
    assert list(scores) == expected
    assert scores[TVN] is own
    # Scored again with these as the configured steps, each gives the same.
    for steps, name in (([], PLAIN), (["standardize"], STANDARDIZED)):
        other = MadeFeatures(tmp_path, {}, settings=settings | {"normalize": steps})
        other.write_config()
        again = own_scores(other.project)
        assert again.main["nsc"].value == scores[name].main["nsc"].value
        assert silhouette(again) == silhouette(scores[name])
    table = measures_table("Normalizations", scores)
    assert table.rows["measure"].tolist() == ["NSC", "silhouette by plate ↓"]
    values = [silhouette(one) for one in scores.values()]
    assert table.bold[1, 1:].tolist() == [value == min(values) for value in values]
    accuracies = [one.main["nsc"].value for one in scores.values()]
    assert table.bold[0, 1:].tolist() == [value == max(accuracies) for value in accuracies]


def silhouette(scores: Scores) -> float:
    (measure,) = scores.of("batch-silhouette")
    return measure.value


def test_other_steps_have_a_name_of_their_own(tmp_path: Path) -> None:
    settings = {"baselines": True, "evaluate": ["nsc"], "normalize": ["robust"]}
    project = MadeFeatures(tmp_path, {"conv4a": 6}, settings=settings).write().project
    own = Scores("the learned profile", "")
    scores = normalizations(project, own)
    assert list(scores)[-1] == "robust"
    assert scores["robust"] is own
