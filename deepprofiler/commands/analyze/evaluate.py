"""How well each layer's profiles match, with and without TVN: the paper's Figure 7."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pandas as pd

from deepprofiler.commands.analyze.aggregate import Gathered, gather, with_enough_cells
from deepprofiler.commands.analyze.classical import classical_wells
from deepprofiler.commands.analyze.normalize import Normalized, configured_steps, fit_chain
from deepprofiler.commands.profile import profile
from deepprofiler.errors import DataError
from deepprofiler.evaluation.accuracy import Accuracy
from deepprofiler.evaluation.scores import (
    Scores,
    chosen_evaluations,
    count_scores,
    score,
    shuffled_scores,
)
from deepprofiler.evaluation.screen import Screen, negative_rows
from deepprofiler.files import replacing
from deepprofiler.parameters import Choice
from deepprofiler.profiling.tvn import TVN, AuthorsTVN, EfaarTVN
from deepprofiler.project import Project
from deepprofiler.project.outcome import LOG, Outcome
from deepprofiler.registry import EVALUATIONS


def baselines(
    project: Project, gathered: Gathered, done: Normalized, outcome: Outcome
) -> Iterator[Scores]:
    """Score untrained weights, the cell count and shuffled labels under the same protocol.

    Parameters
    ----------
    project : Project
    gathered : Gathered
        Of the layer that the profiles are made of.
    done : Normalized
    outcome : Outcome
        Takes notes on baselines that cannot be computed.
    """
    seed = project.config.dataset.seed
    name = f"random-{seed}"
    LOG.info("the same network with random weights, as a baseline")
    try:
        profile(project, random_seed=seed)
        (layer,) = gathered.origin.layers
        random = gather(project, name).of_layer(layer)
        if random.origin.digest != gathered.origin.digest:
            steps = configured_steps(project, gathered.wells)
            chain = fit_chain(project, random.wells, random.cells, steps)
            yield score(
                project,
                chain.transform(random.wells.subset(chain.covers(random.wells))),
                name="random weights",
                about=f"the same network, untrained, seed {seed}, normalized in the same way",
            )
    except DataError as error:
        # Profiles and scores stand without it, for instance where the images are elsewhere.
        outcome.notes.append(f"no baseline of random weights: {error}")
    if project.config.crops.mode == "cells":
        yield count_scores(project, done.before(gathered))
    else:
        outcome.notes.append("no baseline of cell counts: views are not cells")
    yield shuffled_scores(project, done.wells)


def classical(project: Project, gathered: Gathered, outcome: Outcome) -> Iterator[Scores]:
    """Score classical features of the same wells under the same protocol, if there are any."""
    try:
        found = classical_wells(project, gathered.wells, outcome)
        if found is None:
            return
        # Of another program's cells there are no moments: all is fitted on wells.
        chain = fit_chain(project, found, None, configured_steps(project, gathered.wells))
    except DataError as error:
        outcome.notes.append(f"no baseline of classical features: {error}")
        return
    yield score(
        project,
        chain.transform(found.subset(chain.covers(found))),
        name="classical features",
        about=f"{project.config.analyze.classical}, {len(found.names)} features, normalized in the "
        "same way, on wells",
    )


PLAIN = "without normalization"


def corrections(
    project: Project, gathered: Gathered, done: Normalized, chosen: Scores, outcome: Outcome
) -> dict[str, Scores]:
    """Score no normalization, standardization, TVN and Harmony beside what the config asks for.

    Parameters
    ----------
    project : Project
        Its ``analyze.baselines`` asks for all; without it, only no normalization is scored.
    gathered : Gathered
        Of one layer.
    done : Normalized
    chosen : Scores
        Of the configured normalization, which is not scored again.
    outcome : Outcome
        Takes notes on what cannot be computed.

    Returns
    -------
    dict
        Names such as ``standardize + tvn`` to scores, in the order of a table; ``chosen`` itself
        among them.
    """
    configured = configured_steps(project, gathered.wells)
    found = {
        PLAIN: chosen
        if not configured
        else score(
            project,
            done.before(gathered),
            name=PLAIN,
            about="the same wells as aggregated, without analyze.normalize",
        )
    }
    if project.config.analyze.baselines:
        for names in _known(project, gathered, outcome):
            steps = tuple(Choice(name=name) for name in names)
            if steps == configured:
                found[_name(steps)] = chosen
                continue
            try:
                found[_name(steps)] = _scored(project, gathered, steps)
            except DataError as error:
                outcome.notes.append(f"no comparison with {_name(steps)}: {error}")
    if all(chosen is not scores for scores in found.values()):
        # Of the same steps with other parameters, the config's stand for their name.
        name = _name(configured)
        found[f"{name}, as configured" if name in found else name] = chosen
    return found


def _known(project: Project, gathered: Gathered, outcome: Outcome) -> list[list[str]]:
    """Names of the steps to compare, as far as the screen and the installation allow."""
    wells = with_enough_cells(gathered.wells)
    batches = len(set(wells.values(project.index.roles["batch"])))
    known = [["standardize"]]
    if negative_rows(project.index, wells).any():
        known.append(["standardize", "tvn"])
    if batches > 1 and find_spec("harmonypy") is None:
        outcome.notes.append(
            'no comparison with Harmony: pip install "deepprofiler-keras[harmony]"'
        )
    elif batches > 1:
        known.append(["standardize", "harmony"])
    return known


def _name(steps: tuple[Choice, ...]) -> str:
    return " + ".join(step.name for step in steps)


def _scored(project: Project, gathered: Gathered, steps: tuple[Choice, ...]) -> Scores:
    LOG.info("the same features with %s, to compare", _name(steps))
    chain = fit_chain(project, gathered.wells, gathered.cells, steps)
    return score(
        project,
        chain.transform(gathered.wells.subset(chain.covers(gathered.wells))),
        name=_name(steps),
        about="the same features under another normalization",
    )


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


def _normalizations(steps: tuple[Choice, ...]) -> list[tuple[Choice, ...]]:
    """Give the configured steps, these without TVN, and none; each once."""
    without = tuple(step for step in steps if step.name not in _TVN)
    named = {tuple(step.name for step in one): one for one in (steps, without, ())}
    return list(named.values())


def _accuracies(project: Project, screen: Screen) -> Iterator[Accuracy]:
    """Evaluate what is configured and is an accuracy."""
    titles = {EVALUATIONS.build(name).title for name in _ACCURACIES}
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
