"""How well each layer's profiles match, with and without TVN: the paper's Figure 7."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from deepprofiler.config import Named
from deepprofiler.errors import DataError
from deepprofiler.files import replacing
from deepprofiler.profiling.accuracy import Accuracy
from deepprofiler.profiling.tvn import TVN
from deepprofiler.profiling.tvn_variants import AuthorsTVN, EfaarTVN
from deepprofiler.project import Project
from deepprofiler.stages.evaluations import EVALUATIONS
from deepprofiler.stages.normalization import configured_steps, fit_chain
from deepprofiler.stages.outcome import LOG, Outcome
from deepprofiler.stages.scores import chosen_evaluations
from deepprofiler.stages.screen import Screen
from deepprofiler.stages.wells import Gathered

LAYERS = ("layer", "normalization", "metric", "value", "n", "low", "high")
_ACCURACIES = ("nsc", "nscb", "gene-accuracy", "replicate-accuracy", "k-nn")
_TVN = (TVN.name, AuthorsTVN.name, EfaarTVN.name)


def write_layers(project: Project, gathered: Gathered, outcome: Outcome) -> None:
    """Write ``layers.csv``: every accuracy of every layer under several normalizations.

    These are that of ``analyze.normalize``, the same without its TVN, and none. Where there is one
    layer, nothing is written, and an earlier table is removed.

    Parameters
    ----------
    project : Project
    gathered : Gathered
        Of all layers.
    outcome : Outcome
        Takes notes on layers that cannot be normalized.
    """
    path = project.profiles_path("layers.csv")
    if len(gathered.origin.layers) < 2:
        path.unlink(missing_ok=True)
        return
    LOG.info("accuracy of %d layers", len(gathered.origin.layers))
    rows = [
        (layer, *row)
        for layer in gathered.origin.layers
        for row in _rows(project, gathered.of_layer(layer), outcome)
    ]
    with replacing(path) as temporary:
        pd.DataFrame(rows, columns=list(LAYERS)).to_csv(temporary, index=False)


def _rows(
    project: Project, gathered: Gathered, outcome: Outcome
) -> Iterator[tuple[str, str, float, int, float | None, float | None]]:
    """Normalization, metric, value, n and interval of one layer."""
    wells = gathered.wells
    for steps in _normalizations(configured_steps(project, wells)):
        name = " + ".join(step.name for step in steps) or "none"
        try:
            chain = fit_chain(project, wells, gathered.cells, steps)
            screen = Screen.of(project, chain.transform(wells.subset(chain.covers(wells))))
            for result in _accuracies(project, screen):
                exact = result.exact
                low, high = (exact.low, exact.high) if exact else (None, None)
                yield name, result.name, result.value, result.n, low, high
        except DataError as error:
            (layer,) = gathered.origin.layers
            outcome.notes.append(f"layers.csv lacks {layer} under {name}: {error}")


def _normalizations(steps: tuple[Named, ...]) -> list[tuple[Named, ...]]:
    """Give the configured steps, these without TVN, and none; each once."""
    without = tuple(step for step in steps if step.name not in _TVN)
    named = {tuple(step.name for step in one): one for one in (steps, without, ())}
    return list(named.values())


def _accuracies(project: Project, screen: Screen) -> Iterator[Accuracy]:
    """Evaluate what is configured and is an accuracy."""
    titles = {EVALUATIONS[name].title for name in _ACCURACIES}
    for evaluation in chosen_evaluations(project, screen):
        if evaluation.title not in titles or evaluation.missing(screen):
            continue
        try:
            found = evaluation.compute(screen)
        except DataError:
            # The main profile's scores say why.
            continue
        for result in found:
            if isinstance(result, Accuracy):
                yield result
