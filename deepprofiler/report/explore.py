"""What the reader of a report can explore: maps, similarities and neighbours."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from deepprofiler.columns import COUNT, PLATE, PREFIX, WELL, spoken
from deepprofiler.errors import DataError
from deepprofiler.evaluation.scores import neighbours
from deepprofiler.evaluation.screen import Screen, treatments_of, unnamed
from deepprofiler.profiling.chain import Chain
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.report import embedding, plot
from deepprofiler.report.drawings import Drawings
from deepprofiler.report.heatmap import cluster, heat_map
from deepprofiler.report.page import Neighbours, Points, Similarities

# Beyond it the page would grow too large, and a pair would be less than a pixel.
_LARGEST_MATRIX = 600
# More take minutes to embed, and lie upon one another.
_MOST_POINTS = 10_000


def views(drawings: Drawings, screen: Screen, chain: Chain) -> Iterator[Points]:
    """Embed wells, treatments and a sample of cells, and save each map.

    Parameters
    ----------
    drawings : Drawings
    screen : Screen
        Normalized wells with enough cells.
    chain : Chain
        Normalizes the cells.

    Raises
    ------
    ConfigError
        ``analyze.embedding`` is umap, and umap-learn is not installed.
    """
    index, gathered = drawings.index, drawings.gathered
    groups = [("wells", screen.wells)]
    if index.has("treatment") and not unnamed(index, screen.wells).all():
        groups.append(("treatments", treatments_of(screen.wells, index, screen.settings)))
    # A cell's count is that of its well: a step of the chain may need it.
    places = pd.MultiIndex.from_frame(gathered.sample.metadata[[PLATE, WELL]])
    counts = gathered.counts.set_index([PLATE, WELL])[COUNT].reindex(places).to_numpy()
    sample = gathered.sample.with_column(COUNT, counts)
    sample = sample.subset(chain.covers(sample))
    groups.append(("cells", chain.transform(sample)))
    colour = index.roles.get("mechanism") or index.roles.get("treatment") or PLATE
    cells = int(gathered.counts[COUNT].sum())
    for name, profiles in groups:
        of = f" of {cells}, drawn evenly from all wells" if name == "cells" else ""
        if len(profiles) > _MOST_POINTS:
            of = f" of {len(profiles)}, drawn at random"
            rng = np.random.default_rng(drawings.project.config.dataset.seed)
            profiles = profiles.subset(np.sort(rng.permutation(len(profiles))[:_MOST_POINTS]))
        if len(profiles) >= 2:
            yield _view(drawings, name, profiles, of, colour)


def _view(drawings: Drawings, name: str, profiles: Profiles, of: str, colour: str) -> Points:
    """Embed profiles, and save their map coloured by a column."""
    config = drawings.project.config
    seed = config.dataset.seed
    method = embedding.umap if config.analyze.embedding == "umap" else embedding.tsne
    found = method(profiles.features, seed=seed)
    about = f"{found} and seed {seed}, of {len(profiles)} {name}{of}."
    columns = profiles.metadata.rename(columns=lambda text: text.removeprefix(PREFIX))
    first = colour.removeprefix(PREFIX)
    if first in columns:
        # The page colours by the first column until the reader chooses another.
        columns.insert(0, first, columns.pop(first))
        values = list(profiles.values(colour))
        figure = plot.embedding(found.points, values, quantity=spoken(colour), method=found.method)
        data = profiles.metadata.assign(x=found.points[:, 0], y=found.points[:, 1])
        drawings.picture(f"Map of {name}", about, figure, f"map-{name}", data)
        about += f" Also beside this page: map-{name}.png, .svg and .csv."
    thumbnails = drawings.thumbnails(profiles) if name == "cells" else None
    return Points(name, found.points, about, columns, thumbnails)


def similarities(drawings: Drawings, screen: Screen) -> Similarities | None:
    """Cluster the treatments by their similarity, and save the heat map.

    Returns
    -------
    Similarities or None
        None where there are fewer than three treatments, more than 600, or one without an angle.
    """
    if not screen.has_treatments:
        return None
    profiles = screen.treatments
    if not 3 <= len(profiles) <= _LARGEST_MATRIX:
        return None
    try:
        found = cluster(profiles.features)
    except DataError:
        # What is wrong with the profiles is said where they are scored.
        return None
    column = group_column(screen)
    ordered = profiles.subset(found.order)
    names = ordered.values(screen.column("treatment")).astype(str).tolist()
    groups = [""] * len(names)
    if column is not None and column in ordered.metadata:
        groups = ordered.values(column).astype(str).tolist()
    about = (
        f"Cosine similarity of the profiles of {len(names)} treatments, ordered by average "
        "linkage. Also beside this page: similarity.png, .svg and .csv."
    )
    data = ordered.metadata[[screen.column("treatment")]].assign(group=groups)
    values = found.similarity.round(4)
    for position, name in enumerate(names):
        data[f"{position + 1}: {name}"] = values[:, position]
    figure = heat_map(found.similarity, names, groups)
    drawings.picture("Similarity of treatments", about, figure, "similarity", data)
    what = spoken(column) if column else ""
    return Similarities(names, groups, found.similarity, what, about)


def unmapped(screen: Screen) -> tuple[str, ...]:
    """Say that there are too many treatments for :func:`similarities`, or nothing."""
    n = len(screen.treatments) if screen.has_treatments else 0
    if n <= _LARGEST_MATRIX:
        return ()
    return (
        f"There is no heat map of similarities: {n:,} treatments are more than "
        f"{_LARGEST_MATRIX}. The nearest of each are below, and in profiles/neighbours.csv.",
    )


def nearest(screen: Screen) -> Neighbours | None:
    """Nearest treatments of other compounds, as in ``neighbours.csv``; None without any."""
    if not screen.has_treatments:
        return None
    rows = neighbours(screen)
    if not len(rows):
        return None
    column = group_column(screen)
    table = rows.rename(columns={"treatment": "query", "group": "query_group"})
    return Neighbours(
        table.drop(columns="rank"),
        spoken(column) if column else "",
        "cosine similarity" if screen.metric == "cosine" else "negative distance",
    )


def group_column(screen: Screen) -> str | None:
    """Column of what treatments should share: the mechanism, else the gene."""
    roles = [role for role in ("mechanism", "gene") if screen.has(role)]
    return screen.column(roles[0]) if roles else None
