"""What profiles are evaluated by: evaluations by name, their parameters, and what each needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from deepprofiler.columns import PLATE, WELL
from deepprofiler.errors import ConfigError
from deepprofiler.evaluation.accuracy import (
    gene_accuracy,
    k_nearest_accuracy,
    nsc,
    nscb,
    replicate_accuracy,
)
from deepprofiler.evaluation.differences import difference
from deepprofiler.evaluation.links import enrichment
from deepprofiler.evaluation.measure import Measure
from deepprofiler.evaluation.mixing import silhouette
from deepprofiler.evaluation.precision_recall import precision_recall
from deepprofiler.evaluation.replication import percent_replicating
from deepprofiler.evaluation.retrieval import AveragePrecision, Negatives, mean_average_precision
from deepprofiler.evaluation.screen import Screen
from deepprofiler.parameters import Choice
from deepprofiler.registry import EVALUATIONS


class Evaluation(ABC):
    """One way to evaluate a screen. Its keyword-only arguments are its parameters.

    Attributes
    ----------
    title : str
        Its name in tables and sentences.
    needs : tuple of str
        Roles of the index, besides the treatment.
    shuffles : str or None
        Role whose labels are permuted for the baseline of shuffled labels.
    needs_batches : bool
        Whether it needs more than one batch.
    order : int
        Place in tables; the most telling come first.
    """

    title: str
    needs: tuple[str, ...] = ()
    shuffles: str | None = None
    needs_batches: bool = False
    order: int = 100

    @abstractmethod
    def compute(self, screen: Screen) -> Sequence[Measure]:
        """Evaluate a screen.

        Raises
        ------
        DataError
            The screen has nothing that can be evaluated.
        """

    def missing(self, screen: Screen) -> str:
        """Name the role that the screen lacks, or ``batch``; empty where nothing is missing."""
        for role in ("treatment", *self.needs):
            if not screen.has(role):
                return role
        return "batch" if self.needs_batches and screen.batches < 2 else ""


def _shared(screen: Screen) -> dict[str, Any]:
    return {"controls": None, "metric": screen.metric, "seed": screen.seed}


def _matched(screen: Screen) -> dict[str, Any]:
    roles = ("treatment", "compound", "mechanism")
    return _shared(screen) | {role: screen.column(role) for role in roles}


def _different(exclude: Sequence[str]) -> list[str]:
    """Columns in which replicates must differ."""
    columns = {"plate": PLATE, "well": WELL}
    wrong = [name for name in exclude if name not in columns]
    if wrong:
        raise ValueError(f"exclude holds {wrong[0]}; it can hold: {', '.join(columns)}")
    return [columns[name] for name in exclude]


@EVALUATIONS.register("nsc")
class NSC(Evaluation):
    """Nearest neighbour of another compound; see :func:`~deepprofiler.evaluation.accuracy.nsc`."""

    title, needs, shuffles, order = "NSC", ("mechanism",), "mechanism", 0

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        return [nsc(screen.treatments, **_matched(screen))]


@EVALUATIONS.register("nscb")
class NSCB(Evaluation):
    """Nearest neighbour of another compound in another batch."""

    title, needs, shuffles, order = "NSCB", ("mechanism",), "mechanism", 1
    needs_batches = True

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        profiles = screen.treatments_by_batch
        return [nscb(profiles, batch=screen.column("batch"), **_matched(screen))]


@EVALUATIONS.register("gene-accuracy")
class GeneAccuracy(Evaluation):
    """Nearest well of another variant."""

    title, needs, shuffles, order = "gene accuracy", ("gene",), "gene", 2

    def __init__(self, *, exclude: Sequence[str] = ()) -> None:
        self.differ = _different(exclude)

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        return [
            gene_accuracy(
                screen.treated,
                variant=screen.column("treatment"),
                gene=screen.column("gene"),
                differ=self.differ,
                **_shared(screen),
            )
        ]


@EVALUATIONS.register("replicate-accuracy")
class ReplicateAccuracy(Evaluation):
    """Nearest well of the same treatment."""

    title, shuffles, order = "replicate accuracy", "treatment", 3

    def __init__(self, *, exclude: Sequence[str] = ()) -> None:
        self.differ = _different(exclude)

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        return [
            replicate_accuracy(
                screen.treated,
                treatment=screen.column("treatment"),
                compound=screen.column("compound"),
                differ=self.differ,
                **_shared(screen),
            )
        ]


@EVALUATIONS.register("drop")
class Drop(Evaluation):
    """NSCB less NSC."""

    title, needs, order = "drop from NSC to NSCB", ("mechanism",), 4
    needs_batches = True

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        same = nsc(screen.treatments, **_matched(screen))
        other = nscb(screen.treatments_by_batch, batch=screen.column("batch"), **_matched(screen))
        return [difference(same, other, name=self.title, seed=screen.seed)]


@EVALUATIONS.register("k-nn")
class KNearest(Evaluation):
    """What the k nearest of other compounds vote for."""

    title, needs, shuffles, order = "k-NN", ("mechanism",), "mechanism", 5

    def __init__(self, *, k: int = 5) -> None:
        self.k = k

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        return [k_nearest_accuracy(screen.treatments, k=self.k, **_matched(screen))]


def _with_retrieved(screen: Screen, result: AveragePrecision) -> list[Measure]:
    tested = [] if screen.shuffled else [result.retrieved]
    return [result, result.normalized, *tested]


@EVALUATIONS.register("mechanism-map")
class MechanismMAP(Evaluation):
    """Mean average precision of retrieving a mechanism's other compounds."""

    title, needs, shuffles, order = "mAP of mechanisms", ("mechanism",), "mechanism", 6

    def __init__(self, *, permutations: int = 10_000) -> None:
        self.permutations = permutations

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        result = mean_average_precision(
            screen.treatments,
            label=screen.column("mechanism"),
            differ=[screen.column("compound")],
            name=self.title,
            cluster=screen.column("compound"),
            permutations=self.permutations,
            **_shared(screen),
        )
        return _with_retrieved(screen, result)


@EVALUATIONS.register("enrichment")
class Enriched(Evaluation):
    """Share of a mechanism among the closest pairs."""

    # Not shuffled: odds ratios of few pairs may be infinite, and have no mean then.
    title, needs, order = "enrichment", ("mechanism",), 7

    def __init__(self, *, percent: float = 1.0) -> None:
        self.percent = percent

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        columns = _matched(screen)
        del columns["treatment"]
        return [enrichment(screen.treatments, percent=self.percent, **columns)]


@EVALUATIONS.register("precision-recall")
class PrecisionRecall(Evaluation):
    """Precision and recall among the k nearest."""

    title, needs, shuffles, order = "precision and recall", ("mechanism",), "mechanism", 8

    def __init__(self, *, k: int = 10) -> None:
        self.k = k

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        return list(precision_recall(screen.treatments, k=self.k, **_matched(screen)))


@EVALUATIONS.register("mechanism-silhouette")
class MechanismSilhouette(Evaluation):
    """How well mechanisms are separated."""

    title, needs, order = "silhouette by mechanism", ("mechanism",), 9

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        return [
            silhouette(
                screen.treatments,
                by=screen.column("mechanism"),
                cluster=screen.column("compound"),
                metric=screen.metric,
                seed=screen.seed,
            )
        ]


@EVALUATIONS.register("replicate-map")
class ReplicateMAP(Evaluation):
    """Mean average precision of retrieving a treatment's replicates."""

    title, shuffles, order = "mAP of replicates", "treatment", 10

    def __init__(
        self,
        *,
        negatives: Negatives | None = None,
        exclude: Sequence[str] = (),
        permutations: int = 10_000,
    ) -> None:
        self.negatives = negatives
        self.differ = _different(exclude)
        self.permutations = permutations

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        controls = screen.controls
        result = mean_average_precision(
            screen.wells,
            label=screen.column("treatment"),
            differ=self.differ,
            negatives=self.negatives or ("controls" if controls.any() else "others"),
            name=self.title,
            cluster=screen.column("compound"),
            permutations=self.permutations,
            **(_shared(screen) | {"controls": controls}),
        )
        return _with_retrieved(screen, result)


@EVALUATIONS.register("percent-replicating")
class PercentReplicating(Evaluation):
    """Share of treatments whose replicates are more alike than random wells."""

    title, order = "percent replicating", 11

    def __init__(self, *, percentile: float = 95.0, times: int = 1000) -> None:
        self.percentile = percentile
        self.times = times

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        result = percent_replicating(
            screen.wells,
            treatment=screen.column("treatment"),
            controls=screen.controls,
            compound=screen.column("compound"),
            metric="euclidean" if screen.metric == "euclidean" else "correlation",
            percentile=self.percentile,
            times=self.times,
            seed=screen.seed,
        )
        return [result]


@EVALUATIONS.register("batch-silhouette")
class BatchSilhouette(Evaluation):
    """How far batches are apart; the lower, the better."""

    title, order = "silhouette by batch", 12
    needs_batches = True

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        batch, controls = screen.column("batch"), screen.controls
        batches = screen.wells.values(batch)[controls]
        # Controls are the same in all batches, as treatments need not be.
        enough = 1 < len(set(batches)) < len(batches)
        rows = controls if enough else None
        result = silhouette(
            screen.wells, by=batch, rows=rows, metric=screen.metric, seed=screen.seed
        )
        return [replace(result, lower_is_better=True)]


class _Labelled(Evaluation):
    """An evaluation that is listed more than once: its measures name its parameters."""

    def __init__(self, evaluation: Evaluation, label: str) -> None:
        self.evaluation = evaluation
        self.label = label
        self.title = evaluation.title + label
        self.needs, self.shuffles = evaluation.needs, evaluation.shuffles
        self.needs_batches, self.order = evaluation.needs_batches, evaluation.order

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        measures = self.evaluation.compute(screen)
        return [replace(measure, name=measure.name + self.label) for measure in measures]


def all_evaluations() -> list[Evaluation]:
    """Every registered evaluation with its defaults, in the order of tables."""
    evaluations = [EVALUATIONS.build(name) for name in EVALUATIONS.names()]
    return sorted(evaluations, key=lambda evaluation: evaluation.order)


def choose(choices: Iterable[Choice]) -> list[Evaluation]:
    """Look up evaluations and their parameters, as a config gives them.

    Parameters
    ----------
    choices : iterable of Choice
        Registered names with their parameters.

    Returns
    -------
    list of Evaluation

    Raises
    ------
    PluginError
        A name or a parameter does not exist, or a value cannot be used.
    ConfigError
        An evaluation is listed twice with the same parameters.
    """
    chosen: list[Evaluation] = []
    listed = list(choices)
    names = [choice.name for choice in listed]
    for choice in listed:
        evaluation = EVALUATIONS.build(choice.name, params=choice.params)
        if choice.params and names.count(choice.name) > 1:
            values = ", ".join(f"{key}: {_plain(value)}" for key, value in choice.params.items())
            evaluation = _Labelled(evaluation, f" ({values})")
        if evaluation.title in {other.title for other in chosen}:
            raise ConfigError(
                f"analyze.evaluate: {choice.name} is listed twice; remove one, or give it other "
                "parameters"
            )
        chosen.append(evaluation)
    return chosen


def _plain(value: Any) -> str:
    return str(value) if isinstance(value, str | int | float) else ", ".join(map(str, value))
