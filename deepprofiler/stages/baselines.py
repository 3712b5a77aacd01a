"""What the learned profile is compared with, under the same protocol."""

from __future__ import annotations

from collections.abc import Iterator

from deepprofiler.errors import DataError
from deepprofiler.project import Project
from deepprofiler.stages.classical import classical_wells
from deepprofiler.stages.normalization import Normalized, configured_steps, fit_chain
from deepprofiler.stages.outcome import LOG, Outcome
from deepprofiler.stages.profile import profile
from deepprofiler.stages.scores import Scores, count_scores, score, shuffled_scores
from deepprofiler.stages.wells import Gathered, gather


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
