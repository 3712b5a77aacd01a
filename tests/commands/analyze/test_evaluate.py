"""The step `evaluate`: a project's own evaluations, names of methods, and what is compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pandas as pd
import pytest
from made_features import MadeFeatures

from deepprofiler.commands.analyze import analyze
from deepprofiler.commands.analyze.evaluate import PLAIN
from deepprofiler.errors import PluginError
from deepprofiler.project.well_file import read_well, write_well

OWN = """
    from _words import TITLE

    from deepprofiler.evaluation import replicate_accuracy
    from deepprofiler.evaluation.evaluations import Evaluation
    from deepprofiler.registry import EVALUATIONS


    @EVALUATIONS.register("twice")
    class Twice(Evaluation):
        title, main, order = TITLE, True, -1

        def __init__(self, *, fail: bool = False) -> None:
            self.fail = fail

        def compute(self, screen):
            if self.fail:
                return screen.nothing
            return [
                replicate_accuracy(
                    screen.treated, treatment=screen.column("treatment"), controls=None
                )
            ]
"""


def made(root: Path, **settings: object) -> MadeFeatures:
    return MadeFeatures(root, {"conv4a": 4}, plates=2, settings=settings).write()


def scores_of(features: MadeFeatures) -> pd.DataFrame:
    return pd.read_csv(features.project.profiles_path("scores.csv"))


def write_plugin(root: Path) -> Path:
    folder = root / "plugins" / "evaluations"
    folder.mkdir(parents=True)
    own = OWN.replace("from _words", "from ._words")
    (folder / "_words.py").write_text('TITLE = "replicates, again"\n')
    (folder / "own.py").write_text(dedent(own))
    return folder / "own.py"


def test_an_evaluation_of_a_project_is_computed_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_plugin(tmp_path)
    features = made(tmp_path, evaluate=["twice", "replicate-accuracy"], report=True)
    with caplog.at_level("INFO"):
        analyze(features.project)
    assert f"executing the project's own plugin {path}" in caplog.text
    scores = scores_of(features)
    learned = scores[scores["method"] == "the learned profile"]
    # Both are replicate accuracies, and have its name.
    assert learned["metric"].tolist() == ["replicate accuracy"] * 2
    assert learned["value"].nunique() == 1
    assert features.project.report_path.exists()
    features.write_config(evaluate=[{"name": "twice", "params": {"fail": True}}])
    with pytest.raises(PluginError, match=rf"{path} line \d+: .*nothing.*; replicates, again"):
        analyze(features.project)
    # Another project does not have it.
    other = made(tmp_path / "other", evaluate=["twice"])
    with pytest.raises(PluginError, match="no evaluation `twice`"):
        analyze(other.project)


@pytest.mark.parametrize(
    ("checkpoint", "trained", "name"),
    [
        ("random.h5", True, "the learned profile"),
        ("random-forest.h5", True, "the learned profile"),
        ("random-0", False, "the untrained profile"),
    ],
)
def test_whether_weights_are_trained_is_not_taken_from_their_name(
    tmp_path: Path, checkpoint: str, trained: bool, name: str
) -> None:
    features = made(tmp_path, evaluate=["replicate-accuracy"])
    for path in tmp_path.glob("outputs/results/features/*/*.h5"):
        well = read_well(path)
        provenance = replace(well.provenance, checkpoint=checkpoint, trained=trained)
        write_well(path, replace(well, provenance=provenance))
    analyze(features.project)
    assert scores_of(features)["method"].tolist() == [name, PLAIN]


def test_without_normalization_nothing_is_scored_twice(tmp_path: Path) -> None:
    features = made(tmp_path, evaluate=["replicate-accuracy"], normalize=[])
    analyze(features.project)
    assert scores_of(features)["method"].tolist() == ["the learned profile"]
