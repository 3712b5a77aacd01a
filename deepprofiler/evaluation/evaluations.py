"""Evaluations by name: what each computes, its parameters, and the roles that it needs.

A project adds its own in ``plugins/evaluations/*.py``::

    @EVALUATIONS.register("own")
    class Own(Evaluation):
        title = "own measure"

        def __init__(self, *, k: int = 3) -> None: ...

        def compute(self, screen: Screen) -> Sequence[Measure]: ...
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from deepprofiler.columns import PLATE, WELL
from deepprofiler.errors import ConfigError, PluginError, plugin_code
from deepprofiler.evaluation.accuracy import (
    gene_accuracy,
    k_nearest_accuracy,
    nsc,
    nscb,
    replicate_accuracy,
)
from deepprofiler.evaluation.differences import difference
from deepprofiler.evaluation.links import enrichment
from deepprofiler.evaluation.measure import Measure, require_percentage, require_positive
from deepprofiler.evaluation.mixing import silhouette
from deepprofiler.evaluation.precision_recall import precision_recall
from deepprofiler.evaluation.replication import percent_replicating
from deepprofiler.evaluation.retrieval import (
    AveragePrecision,
    Negatives,
    Ranking,
    mean_average_precision,
)
from deepprofiler.evaluation.screen import Screen
from deepprofiler.parameters import Choice
from deepprofiler.registry import EVALUATIONS


class Evaluation(ABC):
    """One way to evaluate a screen. Its keyword-only arguments are its parameters.

    Attributes
    ----------
    title : str
        Its name in tables and messages; without one, the registered name.
    needs : tuple of str
        Roles of the index that it needs besides the treatment.
    needs_batches : bool
        Whether it needs at least two batches.
    shuffles : str or None
        Role whose labels are permuted for the baseline of shuffled labels; None: it has no such
        baseline.
    main : bool
        Whether its result leads the report. It must then be one
        :class:`~deepprofiler.evaluation.accuracy.Accuracy`.
    by_layer : bool
        Whether ``layers.csv`` lists its accuracies for every layer.
    order : int
        Place in tables, lowest first.
    """

    title: str = ""
    needs: tuple[str, ...] = ()
    shuffles: str | None = None
    needs_batches: bool = False
    main: bool = False
    by_layer: bool = False
    order: int = 100

    @abstractmethod
    def compute(self, screen: Screen) -> Sequence[Measure]:
        """Evaluate a screen.

        Raises
        ------
        DataError
            The measures are undefined for this screen.
        """

    def measures(self, screen: Screen) -> tuple[Measure, ...]:
        """Evaluate a screen, and check what :meth:`compute` returns.

        Raises
        ------
        DataError
            As from :meth:`compute`.
        PluginError
            The code of a project or of another package fails, or returns something else.
        """
        if type(self).__module__ == __name__:
            return tuple(self.compute(screen))
        with plugin_code(type(self), f"{self.title or type(self).__name__} cannot be computed"):
            measures = tuple(self.compute(screen))
            if wrong := [result for result in measures if not isinstance(result, Measure)]:
                raise TypeError(f"compute must return measures, not {type(wrong[0]).__name__}")
            return measures

    def missing(self, screen: Screen) -> str:
        """Role that the screen lacks, or ``batch`` where it has one batch; else an empty text."""
        for role in ("treatment", *self.needs):
            if not screen.has(role):
                return role
        return "batch" if self.needs_batches and screen.batches < 2 else ""


def _shared(screen: Screen) -> dict[str, Any]:
    """Arguments of all accuracies of treated profiles, which hold no controls."""
    return {"controls": None, "metric": screen.metric, "seed": screen.seed}


def _matched(screen: Screen) -> dict[str, Any]:
    """Arguments of measures that match treatments by mechanism."""
    roles = ("treatment", "compound", "mechanism")
    return _shared(screen) | {role: screen.column(role) for role in roles}


def _different(exclude: Sequence[str]) -> list[str]:
    """Columns in which replicates must differ."""
    columns = {"plate": PLATE, "well": WELL}
    wrong = [name for name in exclude if name not in columns]
    if wrong:
        raise ValueError(f"exclude contains {wrong[0]}; valid are {', '.join(columns)}")
    return [columns[name] for name in exclude]


@EVALUATIONS.register("nsc")
class NSC(Evaluation):
    """Share of treatments whose nearest neighbour has the same mechanism."""

    title, needs, shuffles, order = "NSC", ("mechanism",), "mechanism", 0
    main = by_layer = True

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        return [nsc(screen.treatments, **_matched(screen))]


@EVALUATIONS.register("nscb")
class NSCB(Evaluation):
    """As ``nsc``, where the neighbour is also from another batch."""

    title, needs, shuffles, order = "NSCB", ("mechanism",), "mechanism", 1
    main = by_layer = needs_batches = True

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        profiles = screen.treatments_by_batch
        return [nscb(profiles, batch=screen.column("batch"), **_matched(screen))]


@EVALUATIONS.register("gene-accuracy")
class GeneAccuracy(Evaluation):
    """Share of wells whose nearest neighbour of another treatment has the same gene.

    ``exclude``: neighbours must differ in ``plate``, ``well`` (position) or both.
    """

    title, needs, shuffles, order = "gene accuracy", ("gene",), "gene", 2
    main = by_layer = True

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
    """Share of wells whose nearest neighbour has the same treatment.

    ``exclude``: neighbours must differ in ``plate``, ``well`` (position) or both.
    """

    title, shuffles, order = "replicate accuracy", "treatment", 3
    main = by_layer = True

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
    """NSCB minus NSC."""

    title, needs, order = "drop from NSC to NSCB", ("mechanism",), 4
    needs_batches = True

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        same = nsc(screen.treatments, **_matched(screen))
        other = nscb(screen.treatments_by_batch, batch=screen.column("batch"), **_matched(screen))
        return [difference(same, other, name=self.title, seed=screen.seed)]


@EVALUATIONS.register("k-nn")
class KNearest(Evaluation):
    """Share of treatments whose ``k`` nearest neighbours vote for their mechanism."""

    title, needs, shuffles, order = "k-NN", ("mechanism",), "mechanism", 5
    by_layer = True

    def __init__(self, *, k: int = 5) -> None:
        require_positive("k", k)
        self.k = k

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        return [k_nearest_accuracy(screen.treatments, k=self.k, **_matched(screen))]


def _with_retrieved(screen: Screen, result: AveragePrecision) -> list[Measure]:
    tested = [] if screen.shuffled else [result.retrieved]
    return [result, result.normalized, *tested]


@EVALUATIONS.register("mechanism-map")
class MechanismMAP(Evaluation):
    """Mean average precision of retrieving treatments of the same mechanism.

    Plain and normalized; a p-value for each mechanism, and the share with p < 0.05 after
    Benjamini–Hochberg correction. ``permutations``: number of random rankings, where there are too
    many to enumerate.
    """

    title, needs, shuffles, order = "mAP of mechanisms", ("mechanism",), "mechanism", 6

    def __init__(self, *, permutations: int = 10_000) -> None:
        require_positive("permutations", permutations)
        self.permutations = permutations

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        compound = screen.column("compound")
        ranking = Ranking(
            label=screen.column("mechanism"),
            differ=[compound],
            metric=screen.metric,
            name=self.title,
            cluster=compound,
        )
        result = mean_average_precision(
            screen.treatments,
            ranking,
            controls=None,
            permutations=self.permutations,
            seed=screen.seed,
        )
        return _with_retrieved(screen, result)


@EVALUATIONS.register("enrichment")
class Enriched(Evaluation):
    """Odds ratio of sharing a mechanism among the closest ``percent`` of all pairs.

    Its p-value is that of Fisher's one-sided test.
    """

    # No baseline of shuffled labels: odds ratios of few pairs may be infinite, without a mean.
    title, needs, order = "enrichment", ("mechanism",), 7

    def __init__(self, *, percent: float = 1.0) -> None:
        require_percentage("percent", percent)
        self.percent = percent

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        columns = _matched(screen)
        del columns["treatment"]
        return [enrichment(screen.treatments, percent=self.percent, **columns)]


@EVALUATIONS.register("precision-recall")
class PrecisionRecall(Evaluation):
    """Precision and recall of the mechanism among the ``k`` nearest neighbours."""

    title, needs, shuffles, order = "precision and recall", ("mechanism",), "mechanism", 8

    def __init__(self, *, k: int = 10) -> None:
        require_positive("k", k)
        self.k = k

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        return list(precision_recall(screen.treatments, k=self.k, **_matched(screen)))


@EVALUATIONS.register("mechanism-silhouette")
class MechanismSilhouette(Evaluation):
    """Mean silhouette of treatments grouped by mechanism."""

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
    """Mean average precision of retrieving a well's replicates, as ``mechanism-map``.

    ``negatives``: replicates are ranked against ``controls``, ``others`` (wells of other
    treatments) or ``both``; none: controls where there are any, else others.
    """

    title, shuffles, order = "mAP of replicates", "treatment", 10

    def __init__(
        self,
        *,
        negatives: Negatives | None = None,
        exclude: Sequence[str] = (),
        permutations: int = 10_000,
    ) -> None:
        require_positive("permutations", permutations)
        self.negatives = negatives
        self.differ = _different(exclude)
        self.permutations = permutations

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        controls = screen.controls
        ranking = Ranking(
            label=screen.column("treatment"),
            differ=self.differ,
            negatives=self.negatives or ("controls" if controls.any() else "others"),
            metric=screen.metric,
            name=self.title,
            cluster=screen.column("compound"),
        )
        result = mean_average_precision(
            screen.wells,
            ranking,
            controls=controls,
            permutations=self.permutations,
            seed=screen.seed,
        )
        return _with_retrieved(screen, result)


@EVALUATIONS.register("percent-replicating")
class PercentReplicating(Evaluation):
    """Share of treatments whose replicates are more similar than random wells.

    The median correlation between replicates must exceed the ``percentile`` of ``times`` random
    groups of as many wells of different treatments.
    """

    title, order = "percent replicating", 11

    def __init__(self, *, percentile: float = 95.0, times: int = 1000) -> None:
        require_percentage("percentile", percentile)
        require_positive("times", times)
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
    """Mean silhouette of wells grouped by batch; near 0 where batches are well mixed.

    Of the negative controls, or of all wells where there are none.
    """

    title, order = "silhouette by batch", 12
    needs_batches = True

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        batch, controls = screen.column("batch"), screen.controls
        batches = screen.wells.values(batch)[controls]
        # Controls are the same in all batches; treatments need not be.
        comparable = 1 < len(set(batches)) < len(batches)
        rows = controls if comparable else None
        result = silhouette(
            screen.wells, by=batch, rows=rows, metric=screen.metric, seed=screen.seed
        )
        return [replace(result, lower_is_better=True)]


class _WithParameters(Evaluation):
    """An evaluation that is listed more than once: names of its measures tell its parameters."""

    def __init__(self, evaluation: Evaluation, suffix: str) -> None:
        self.evaluation = evaluation
        self.suffix = suffix
        self.title = evaluation.title + suffix
        self.needs, self.shuffles = evaluation.needs, evaluation.shuffles
        self.needs_batches, self.order = evaluation.needs_batches, evaluation.order

    def compute(self, screen: Screen) -> Sequence[Measure]:
        """See :meth:`Evaluation.compute`."""
        measures = self.evaluation.measures(screen)
        return [replace(measure, name=measure.name + self.suffix) for measure in measures]


def all_evaluations() -> dict[str, Evaluation]:
    """Every registered evaluation with its defaults by name, in the order of tables."""
    evaluations = {name: _build(name, {}) for name in EVALUATIONS.names()}
    return dict(sorted(evaluations.items(), key=lambda item: item[1].order))


def applicable_evaluations(screen: Screen) -> dict[str, Evaluation]:
    """Every registered evaluation that a screen has the roles for, by name."""
    if not len(screen.wells):
        return {}
    return {
        name: evaluation
        for name, evaluation in all_evaluations().items()
        if not evaluation.missing(screen)
    }


def choose(choices: Iterable[Choice]) -> dict[str, Evaluation]:
    """Build evaluations with their parameters, as a config gives them.

    Parameters
    ----------
    choices : iterable of Choice
        Registered names with their parameters.

    Returns
    -------
    dict
        Evaluations by name; where a name is listed more than once, its parameters are added to it,
        as in ``k-nn (k: 3)``.

    Raises
    ------
    PluginError
        A name or a parameter does not exist, or a value cannot be used.
    ConfigError
        An evaluation is listed twice with the same parameters.
    """
    evaluations: dict[str, Evaluation] = {}
    listed = list(choices)
    names = [choice.name for choice in listed]
    for choice in listed:
        evaluation, key = _build(choice.name, choice.params), choice.name
        if choice.params and names.count(choice.name) > 1:
            values = ", ".join(f"{name}: {_plain(value)}" for name, value in choice.params.items())
            evaluation, key = _WithParameters(evaluation, f" ({values})"), f"{key} ({values})"
        if key in evaluations:
            raise ConfigError(
                f"analyze.evaluate: {choice.name} is listed twice; remove one, or give it other "
                "parameters"
            )
        evaluations[key] = evaluation
    return evaluations


def _build(name: str, params: Mapping[str, Any]) -> Evaluation:
    evaluation = EVALUATIONS.build(name, params=params)
    if not isinstance(evaluation, Evaluation):
        raise PluginError(
            f"evaluation `{name}` ({type(evaluation).__module__}) must be a subclass of "
            f"{Evaluation.__module__}.{Evaluation.__name__}"
        )
    evaluation.title = evaluation.title or name
    return evaluation


def _plain(value: Any) -> str:
    return str(value) if isinstance(value, str | int | float) else ", ".join(map(str, value))
