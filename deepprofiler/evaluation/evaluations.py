"""What profiles are evaluated by: names, parameters, and which roles of the index each needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from deepprofiler.columns import PLATE, WELL
from deepprofiler.config.schema import Named
from deepprofiler.errors import ConfigError, nearest
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
from deepprofiler.parameters import checked


@dataclass(frozen=True)
class Evaluation:
    """One way to evaluate a screen.

    Attributes
    ----------
    title : str
        As it stands in tables and sentences.
    compute : callable
        From a screen, and keyword-only parameters with defaults, to one or more measures.
    needs : tuple of str
        Roles of the index, besides the treatment.
    shuffles : str or None
        Role whose labels are dealt out anew for the baseline of shuffled labels.
    batches : bool
        Whether it needs more than one batch.
    """

    title: str
    compute: Callable[..., Sequence[Measure]]
    needs: tuple[str, ...] = ()
    shuffles: str | None = None
    batches: bool = False

    def missing(self, screen: Screen) -> str:
        """Say what it lacks, or nothing."""
        for role in ("treatment", *self.needs):
            if not screen.has(role):
                return f"the index has no {role}; name its column in dataset.columns.{role}"
        return "all wells are of one batch" if self.batches and screen.batches < 2 else ""


def _common(screen: Screen) -> dict[str, Any]:
    return {"controls": None, "metric": screen.metric, "seed": screen.seed}


def _matched(screen: Screen) -> dict[str, Any]:
    roles = ("treatment", "compound", "mechanism")
    return _common(screen) | {role: screen.column(role) for role in roles}


def _nsc(screen: Screen) -> list[Measure]:
    return [nsc(screen.treatments, **_matched(screen))]


def _nscb(screen: Screen) -> list[Measure]:
    profiles = screen.treatments_by_batch
    return [nscb(profiles, batch=screen.column("batch"), **_matched(screen))]


def _drop(screen: Screen) -> list[Measure]:
    same = nsc(screen.treatments, **_matched(screen))
    other = nscb(screen.treatments_by_batch, batch=screen.column("batch"), **_matched(screen))
    return [difference(same, other, name="drop from NSC to NSCB", seed=screen.seed)]


def _k_nearest(screen: Screen, *, k: int = 5) -> list[Measure]:
    return [k_nearest_accuracy(screen.treatments, k=k, **_matched(screen))]


def _excluded(exclude: Sequence[str]) -> list[str]:
    """Columns in which replicates must differ."""
    known = {"plate": PLATE, "well": WELL}
    wrong = [name for name in exclude if name not in known]
    if wrong:
        raise ValueError(f"exclude holds {wrong[0]}; it can hold: {', '.join(known)}")
    return [known[name] for name in exclude]


def _genes(screen: Screen, *, exclude: Sequence[str] = ()) -> list[Measure]:
    return [
        gene_accuracy(
            screen.treated,
            variant=screen.column("treatment"),
            gene=screen.column("gene"),
            differ=_excluded(exclude),
            **_common(screen),
        )
    ]


def _replicates(screen: Screen, *, exclude: Sequence[str] = ()) -> list[Measure]:
    return [
        replicate_accuracy(
            screen.treated,
            treatment=screen.column("treatment"),
            compound=screen.column("compound"),
            differ=_excluded(exclude),
            **_common(screen),
        )
    ]


def _retrieved(screen: Screen, result: AveragePrecision) -> list[Measure]:
    tested = [] if screen.shuffled else [result.retrieved]
    return [result, result.normalized, *tested]


def _mechanism_map(screen: Screen, *, permutations: int = 10_000) -> list[Measure]:
    result = mean_average_precision(
        screen.treatments,
        label=screen.column("mechanism"),
        differ=[screen.column("compound")],
        name="mAP of mechanisms",
        cluster=screen.column("compound"),
        permutations=permutations,
        **_common(screen),
    )
    return _retrieved(screen, result)


def _replicate_map(
    screen: Screen,
    *,
    negatives: Negatives | None = None,
    exclude: Sequence[str] = (),
    permutations: int = 10_000,
) -> list[Measure]:
    controls = screen.controls
    result = mean_average_precision(
        screen.wells,
        label=screen.column("treatment"),
        differ=_excluded(exclude),
        negatives=negatives or ("controls" if controls.any() else "others"),
        name="mAP of replicates",
        cluster=screen.column("compound"),
        permutations=permutations,
        **(_common(screen) | {"controls": controls}),
    )
    return _retrieved(screen, result)


def _enrichment(screen: Screen, *, percent: float = 1.0) -> list[Measure]:
    columns = _matched(screen)
    del columns["treatment"]
    return [enrichment(screen.treatments, percent=percent, **columns)]


def _precision_recall(screen: Screen, *, k: int = 10) -> list[Measure]:
    return list(precision_recall(screen.treatments, k=k, **_matched(screen)))


def _replicating(screen: Screen, *, percentile: float = 95.0, times: int = 1000) -> list[Measure]:
    result = percent_replicating(
        screen.wells,
        treatment=screen.column("treatment"),
        controls=screen.controls,
        compound=screen.column("compound"),
        metric="euclidean" if screen.metric == "euclidean" else "correlation",
        percentile=percentile,
        times=times,
        seed=screen.seed,
    )
    return [result]


def _batches(screen: Screen) -> list[Measure]:
    batch, controls = screen.column("batch"), screen.controls
    found = screen.wells.values(batch)[controls]
    # Controls are the same in all batches, as treatments need not be.
    enough = 1 < len(set(found)) < len(found)
    rows = controls if enough else None
    return [silhouette(screen.wells, by=batch, rows=rows, metric=screen.metric, seed=screen.seed)]


def _mechanisms(screen: Screen) -> list[Measure]:
    return [
        silhouette(
            screen.treatments,
            by=screen.column("mechanism"),
            cluster=screen.column("compound"),
            metric=screen.metric,
            seed=screen.seed,
        )
    ]


_BY_MECHANISM: dict[str, Any] = {"needs": ("mechanism",), "shuffles": "mechanism"}

#: In the order of tables: the most telling first.
EVALUATIONS = {
    "nsc": Evaluation("NSC", _nsc, **_BY_MECHANISM),
    "nscb": Evaluation("NSCB", _nscb, batches=True, **_BY_MECHANISM),
    "gene-accuracy": Evaluation("gene accuracy", _genes, ("gene",), "gene"),
    "replicate-accuracy": Evaluation("replicate accuracy", _replicates, shuffles="treatment"),
    "drop": Evaluation("drop from NSC to NSCB", _drop, ("mechanism",), batches=True),
    "k-nn": Evaluation("k-NN", _k_nearest, **_BY_MECHANISM),
    "mechanism-map": Evaluation("mAP of mechanisms", _mechanism_map, **_BY_MECHANISM),
    # Odds ratios of few pairs may be infinite: shuffles have no mean, and p-values tell as much.
    "enrichment": Evaluation("enrichment", _enrichment, ("mechanism",)),
    "precision-recall": Evaluation("precision and recall", _precision_recall, **_BY_MECHANISM),
    "mechanism-silhouette": Evaluation("silhouette by mechanism", _mechanisms, ("mechanism",)),
    "replicate-map": Evaluation("mAP of replicates", _replicate_map, shuffles="treatment"),
    "percent-replicating": Evaluation("percent replicating", _replicating),
    "batch-silhouette": Evaluation("silhouette by batch", _batches, batches=True),
}


def choose(named: Iterable[Named]) -> list[Evaluation]:
    """Look up evaluations and their parameters, as a config gives them.

    Parameters
    ----------
    named : iterable of Named
        Names of :data:`EVALUATIONS` with their parameters.

    Returns
    -------
    list of Evaluation
        They compute with the given parameters, and raise ConfigError where a value cannot be used.

    Raises
    ------
    ConfigError
        A name or a parameter does not exist.
    """
    chosen: list[Evaluation] = []
    listed = [(one.name, one.params) for one in named]
    names = [name for name, _ in listed]
    for name, params in listed:
        if name not in EVALUATIONS:
            raise ConfigError(
                f"analyze.evaluate: no evaluation {name}{nearest(name, EVALUATIONS)}; there are "
                f"{', '.join(EVALUATIONS)}"
            )
        evaluation, what = EVALUATIONS[name], f"analyze.evaluate: {name}"
        params = checked(evaluation.compute, params, what)
        label = ""
        if params and names.count(name) > 1:
            label = f" ({', '.join(f'{key}: {_plain(value)}' for key, value in params.items())})"
        title, compute = evaluation.title + label, _with(evaluation.compute, what, params, label)
        if title in {one.title for one in chosen}:
            raise ConfigError(f"{what} is there twice; leave one out, or give it other parameters")
        chosen.append(replace(evaluation, title=title, compute=compute))
    return chosen


def _with(
    compute: Callable[..., Sequence[Measure]], what: str, params: dict[str, Any], label: str
) -> Callable[..., Sequence[Measure]]:
    """Give parameters to a computation, and a label to what it computes with them.

    A value out of range is the config's fault.
    """
    if not params:
        return compute

    def computed(screen: Screen) -> Sequence[Measure]:
        try:
            found = compute(screen, **params)
        except ValueError as error:
            raise ConfigError(f"{what}: {error}") from error
        return [replace(measure, name=measure.name + label) for measure in found]

    return computed


def _plain(value: Any) -> str:
    return str(value) if isinstance(value, str | int | float) else ", ".join(map(str, value))
