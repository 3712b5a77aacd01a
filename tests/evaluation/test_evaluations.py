"""Evaluations by name: their parameters, names and defaults, and those of a project."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from small_screen import ROLES, chosen, wells_of

from deepprofiler.errors import ConfigError, DataError, PluginError
from deepprofiler.evaluation import Screen
from deepprofiler.evaluation.evaluations import all_evaluations, choose
from deepprofiler.evaluation.scores import Scores, Undefined, score, shuffled_scores
from deepprofiler.registry import EVALUATIONS, discover


@pytest.fixture(scope="module")
def screen() -> Screen:
    return Screen(wells_of(), ROLES)


def names_of(scores: Scores) -> list[str]:
    return [measure.name for measure in scores.measures]


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
