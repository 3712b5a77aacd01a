"""Which exported cells are trained on, and which are held out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from deepprofiler.columns import CELL, PLATE, SITE, WELL
from deepprofiler.commands.export_cells import export_cells
from deepprofiler.errors import DataError
from deepprofiler.learning.cell_store import CellStore, read_made_from, table_path
from deepprofiler.learning.sampling import Cells
from deepprofiler.project import Project
from deepprofiler.project.outcome import LOG, Outcome
from deepprofiler.project.sites import SiteReader, crop_settings
from deepprofiler.project.splits import training_labels, validation_rows


def export(project: Project, outcome: Outcome) -> None:
    """Export what is missing or outdated.

    A machine that only trains may have the stores and none of the images.
    """
    if _has_images(project) or not all(map(_is_whole, _paths(project))):
        exported = export_cells(project)
        outcome.left_out = {f"{what} (export-sc)": n for what, n in exported.left_out.items()}
    else:
        outcome.notes.append("no image of the index is here: the cells are used as exported")


def open_store(project: Project, outcome: Outcome) -> CellStore:
    """Open the stores that there are."""
    # The store of a plate whose images cannot be read (any more) may be of other settings.
    expected = crop_settings(project)
    found = [path for path in _paths(project) if _is_whole(path)]
    usable = [path for path in found if _config(path) == expected]
    if len(usable) < len(found):
        outcome.notes.append(
            f"{len(found) - len(usable)} plate(s) are not trained on: their cells were exported "
            "with other settings, and their images cannot be read"
        )
    return CellStore(usable)


def _paths(project: Project) -> list[Path]:
    return [project.store_path(plate) for plate in project.index.plates]


def _config(store: Path) -> object:
    """Give what the config said when a store was made."""
    return json.loads(read_made_from(store)).get("config")


def _is_whole(store: Path) -> bool:
    return store.exists() and table_path(store).exists()


def _has_images(project: Project) -> bool:
    """Whether any image, or 8-bit copy of one, is there."""
    reader = SiteReader(project)
    return any(
        file.path.exists()
        for site in project.index.sites
        for file in (*site.files, *reader.files(site))
    )


@dataclass(frozen=True)
class Chosen:
    """The cells to train on and to watch, and the names of their classes.

    Attributes
    ----------
    training : Cells
    validation : Cells, optional
    classes : list of str
    """

    training: Cells
    validation: Cells | None
    classes: list[str]


def choose(project: Project, store: CellStore, seed: int, outcome: Outcome) -> Chosen:
    """Join labels from the index and divide the cells; what is not used is counted."""
    index, settings = project.index, project.config.train
    sites = pd.MultiIndex.from_frame(index.table[[PLATE, WELL, SITE]])
    where = sites.get_indexer(pd.MultiIndex.from_frame(store.table[[PLATE, WELL, SITE]]))
    labels = training_labels(index, controls=settings.controls, labels=settings.labels)
    codes = np.where(where < 0, -1, labels.codes[where])
    for reason, count in labels.left_out.items():
        outcome.notes.append(f"not trained on: {count} site(s) {reason}")
    strangers = int((where < 0).sum())
    if strangers:
        outcome.notes.append(f"{strangers} exported cells are of sites that the index lacks")
    bare = len(sites) - len(np.unique(where[where >= 0]))
    if bare:
        outcome.notes.append(f"{bare} site(s) of the index have no exported cells")
    held = _held_out(project, store, codes, where, seed, outcome)
    counts = np.bincount(codes[(codes >= 0) & ~held], minlength=len(labels.classes))
    if (counts == 0).any():
        names = [name for name, n in zip(labels.classes, counts, strict=True) if n == 0]
        outcome.notes.append(f"{len(names)} label(s) have no training cells: {', '.join(names)}")
    kept = np.flatnonzero(counts)
    if len(kept) < 2:
        raise DataError(
            f"training needs two labels with cells; there are {len(kept)}: "
            f"{', '.join(labels.classes[code] for code in kept) or 'none'} "
            f"(column {index.roles['label']})"
        )
    # Codes of the classes that are left; -1 for the others, and for no label at all.
    recode = np.full(len(labels.classes) + 1, -1)
    recode[kept] = np.arange(len(kept))
    codes = recode[codes]
    classes = [labels.classes[code] for code in kept]
    LOG.info(
        "training on %d cells of %d labels (%d to %d each), validating on %d",
        ((codes >= 0) & ~held).sum(),
        len(classes),
        counts[kept].min(),
        counts[kept].max(),
        ((codes >= 0) & held).sum(),
    )

    def cells(rows: np.ndarray) -> Cells:
        columns = {
            role: index.values(role).to_numpy()[where[rows]]
            for role in ("batch", "replicate")
            if index.has(role)
        }
        return Cells.from_columns(
            row=rows,
            label=codes[rows],
            classes=len(classes),
            plate=store.table[PLATE].to_numpy()[rows],
            well=store.table[WELL].to_numpy()[rows],
            **columns,
        )

    watched = np.flatnonzero((codes >= 0) & held)
    return Chosen(
        cells(np.flatnonzero((codes >= 0) & ~held)),
        cells(watched) if len(watched) else None,
        classes,
    )


def _held_out(
    project: Project,
    store: CellStore,
    codes: np.ndarray,
    where: np.ndarray,
    seed: int,
    outcome: Outcome,
) -> np.ndarray:
    """Which cells validate, (N,) bool; cells in neither half lose their code."""
    settings = project.config.train.validation
    sites = validation_rows(project.index, settings)
    if sites is not None:
        for reason, count in sites.left_out.items():
            outcome.notes.append(f"neither trained on nor validated: {count} site(s) {reason}")
        codes[~(sites.training | sites.validation)[where]] = -1
        return sites.validation[where] & (where >= 0)
    held = np.zeros(len(codes), bool)
    draws = _draws(store.table, seed)
    for code in np.unique(codes[codes >= 0]):
        rows = np.flatnonzero(codes == code)
        rows = rows[np.argsort(draws[rows], kind="stable")]
        held[rows[: int(len(rows) * settings.fraction)]] = True
    return held


def _draws(table: pd.DataFrame, seed: int) -> np.ndarray:
    """Give each cell a random number, (N,) uint64, whatever other cells there are.

    Were they drawn by position, one repaired site would change what all others are for.
    """
    columns = (table[name].tolist() for name in (PLATE, WELL, SITE, CELL))
    names = ("\0".join(map(str, (seed, *cell))).encode() for cell in zip(*columns, strict=True))
    digests = b"".join(hashlib.blake2b(name, digest_size=8).digest() for name in names)
    return np.frombuffer(digests, "<u8")
