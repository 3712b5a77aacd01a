"""Which sites and cells are trained on, with which label, and which are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd

from deepprofiler.columns import CELL, PLATE, SITE, WELL, natural_key
from deepprofiler.errors import ConfigError, DataError, listing, nearest
from deepprofiler.learning.learning_settings import Labels, Train, Validation
from deepprofiler.learning.sampling import Cells
from deepprofiler.project.index import Index


class NotTrained(StrEnum):
    """Why a site is not trained on."""

    BLANK_LABEL = "blank label"
    NEGATIVE_CONTROL = "negative control"
    EXCLUDED = "excluded by train.labels"
    BLANK_SPLIT = "blank in the column that splits"
    OTHER_SPLIT = "neither trained on nor validated"


@dataclass(frozen=True, eq=False)
class TrainingLabels:
    """The classes of the auxiliary task.

    Attributes
    ----------
    classes : tuple of str
        The K labels, sorted.
    codes : numpy.ndarray
        (sites,) int64 in the index's order: 0 … K − 1, or −1 where a site is not trained on.
    left_out : dict
        Reason to the number of sites that are not trained on.
    """

    classes: tuple[str, ...]
    codes: np.ndarray
    left_out: dict[NotTrained, int]


@dataclass(frozen=True, eq=False)
class ValidationSites:
    """Sites to train on and sites to validate on, both (sites,) bool in the index's order.

    Attributes
    ----------
    training, validation : numpy.ndarray
    column : str
        The column of the index that divides them.
    left_out : dict
        Reason to the number of sites that are in neither.
    """

    training: np.ndarray
    validation: np.ndarray
    column: str
    left_out: dict[NotTrained, int]


@dataclass(frozen=True, eq=False)
class TrainingCells:
    """The cells to train on and to validate on.

    Attributes
    ----------
    training : Cells
    validation : Cells or None
    classes : tuple of str
        The K labels that have training cells.
    counts : numpy.ndarray
        (K,) training cells of each class.
    labels : TrainingLabels
        Of all sites.
    sites : ValidationSites or None
        None where single cells are held out.
    cells_of_unknown_sites : int
        Exported cells of sites that the index does not have.
    sites_without_cells : int
        Sites of the index without exported cells.
    labels_without_cells : tuple of str
    """

    training: Cells
    validation: Cells | None
    classes: tuple[str, ...]
    counts: np.ndarray
    labels: TrainingLabels
    sites: ValidationSites | None
    cells_of_unknown_sites: int
    sites_without_cells: int
    labels_without_cells: tuple[str, ...]


def divide_cells(index: Index, table: pd.DataFrame, settings: Train, seed: int) -> TrainingCells:
    """Join labels from the index to exported cells, and hold out those that validate.

    Parameters
    ----------
    index : Index
    table : pandas.DataFrame
        Exported cells, a row each: ``Metadata_Plate``, ``Metadata_Well``, ``Metadata_Site``,
        ``Metadata_Cell``; positions are rows of the store of cells.
    settings : Train
        Its labels, controls and validation.
    seed : int
        Draws the cells of ``validation: cells``.

    Returns
    -------
    TrainingCells

    Raises
    ------
    ConfigError, DataError
        See :func:`training_labels` and :func:`validation_sites`; or fewer than two labels have
        training cells.
    """
    sites = pd.MultiIndex.from_frame(index.table[[PLATE, WELL, SITE]])
    site_of_cell = sites.get_indexer(pd.MultiIndex.from_frame(table[[PLATE, WELL, SITE]]))
    labels = training_labels(index, controls=settings.controls, labels=settings.labels)
    codes = np.where(site_of_cell < 0, -1, labels.codes[site_of_cell])
    held_out_sites = validation_sites(index, settings.validation)
    if held_out_sites is None:
        held_out = _held_out_cells(table, codes, settings.validation.fraction, seed)
    else:
        used = held_out_sites.training | held_out_sites.validation
        codes[~used[site_of_cell]] = -1
        held_out = held_out_sites.validation[site_of_cell] & (site_of_cell >= 0)
    counts = np.bincount(codes[(codes >= 0) & ~held_out], minlength=len(labels.classes))
    present = np.flatnonzero(counts)
    if len(present) < 2:
        raise DataError(
            f"training needs two labels with cells; there are {len(present)}: "
            f"{', '.join(labels.classes[code] for code in present) or 'none'} "
            f"(column {index.roles['label']})"
        )
    # Codes of the classes that are left; -1 for the others, and for no label at all.
    recode = np.full(len(labels.classes) + 1, -1)
    recode[present] = np.arange(len(present))
    codes = recode[codes]
    classes = tuple(labels.classes[code] for code in present)

    def cells(rows: np.ndarray) -> Cells:
        columns = {
            role: index.values(role).to_numpy()[site_of_cell[rows]]
            for role in ("batch", "replicate")
            if index.has(role)
        }
        return Cells.from_columns(
            row=rows,
            label=codes[rows],
            classes=len(classes),
            plate=table[PLATE].to_numpy()[rows],
            well=table[WELL].to_numpy()[rows],
            **columns,
        )

    validation = np.flatnonzero((codes >= 0) & held_out)
    return TrainingCells(
        training=cells(np.flatnonzero((codes >= 0) & ~held_out)),
        validation=cells(validation) if len(validation) else None,
        classes=classes,
        counts=counts[present],
        labels=labels,
        sites=held_out_sites,
        cells_of_unknown_sites=int((site_of_cell < 0).sum()),
        sites_without_cells=len(sites) - len(np.unique(site_of_cell[site_of_cell >= 0])),
        labels_without_cells=tuple(
            name for name, n in zip(labels.classes, counts, strict=True) if n == 0
        ),
    )


def _held_out_cells(
    table: pd.DataFrame, codes: np.ndarray, fraction: float, seed: int
) -> np.ndarray:
    """Hold out a share of each class's cells, (N,) bool."""
    held_out = np.zeros(len(codes), bool)
    draws = _draws(table, seed)
    for code in np.unique(codes[codes >= 0]):
        rows = np.flatnonzero(codes == code)
        rows = rows[np.argsort(draws[rows], kind="stable")]
        held_out[rows[: int(len(rows) * fraction)]] = True
    return held_out


def _draws(table: pd.DataFrame, seed: int) -> np.ndarray:
    """Give each cell a random number, (N,) uint64, whatever other cells there are.

    Were they drawn by position, one repaired site would change the part of all other cells.
    """
    columns = (table[name].tolist() for name in (PLATE, WELL, SITE, CELL))
    names = ("\0".join(map(str, (seed, *cell))).encode() for cell in zip(*columns, strict=True))
    digests = b"".join(hashlib.blake2b(name, digest_size=8).digest() for name in names)
    return np.frombuffer(digests, "<u8")


def training_labels(
    index: Index, *, controls: bool = False, labels: Labels | None = None
) -> TrainingLabels:
    """Give every site its class.

    Sites with a blank label are left out, and negative controls unless ``controls`` is set; then
    what ``labels`` does not include, or excludes.

    Parameters
    ----------
    index : Index
    controls : bool
        Negative controls are trained on as well.
    labels : deepprofiler.config.schema.Labels, optional
        Lists of labels, ``include`` or ``exclude``.

    Returns
    -------
    TrainingLabels

    Raises
    ------
    ConfigError
        The index has no labels, or ``labels`` names one that there is not.
    DataError
        Fewer than two labels are left.
    """
    values = index.values("label").to_numpy(dtype=str)
    column = index.roles["label"]
    used = values != ""
    left_out = {NotTrained.BLANK_LABEL: int((~used).sum())}
    if not controls:
        negative = index.negative.to_numpy(dtype=bool) & used
        left_out[NotTrained.NEGATIVE_CONTROL] = int(negative.sum())
        used &= ~negative
    if labels is not None:
        names = labels.include if labels.include is not None else labels.exclude
        _check_names(index, names or (), np.unique(values[used]).tolist())
        listed = np.isin(values, names or ())
        dropped = used & (~listed if labels.include is not None else listed)
        left_out[NotTrained.EXCLUDED] = int(dropped.sum())
        used &= ~dropped
    left_out = {reason: count for reason, count in left_out.items() if count}
    classes, inverse = np.unique(values[used], return_inverse=True)
    if len(classes) < 2:
        without = "".join(f"; {count} sites: {reason}" for reason, count in left_out.items())
        raise DataError(
            f"training needs at least 2 labels, but {column} of {index.path.name} has "
            f"{len(classes)} to train on ({listing(classes) or 'none'}){without}"
        )
    codes = np.full(len(values), -1, dtype=np.int64)
    codes[used] = inverse
    return TrainingLabels(tuple(classes.tolist()), codes, left_out)


def _check_names(index: Index, names: Sequence[str], labels: list[str]) -> None:
    controls = set(index.values("label")[index.negative])
    lines = []
    for name in names:
        if name in labels:
            continue
        if name in controls:
            lines.append(
                f"train.labels names `{name}`, the negative controls, which are trained on only "
                "with train.controls: true"
            )
        else:
            lines.append(
                f"train.labels names `{name}`, which is not a label in {index.roles['label']} of "
                f"{index.path.name}{nearest(name, labels)}"
            )
    if lines:
        raise ConfigError("\n".join(lines))


def validation_sites(index: Index, validation: Validation) -> ValidationSites | None:
    """Divide the sites into those to learn from and those held out.

    Parameters
    ----------
    index : Index
    validation : deepprofiler.config.schema.Validation
        ``by: column`` takes the column of the role ``split``: its ``values`` are held out, by
        default 1, with 0 for training. ``by: replicate`` holds out replicates, by default the
        last. ``training`` names the values to learn from, by default all others. Without ``by``
        it is the split column where there is one, else cells.

    Returns
    -------
    ValidationSites or None
        None for ``by: cells``, which is not decided by site. Sites with a blank in the column,
        or a value that is neither learned from nor held out, are counted in ``left_out``.

    Raises
    ------
    ConfigError
        The column is missing, or does not have a named value, or a value is named for both.
    DataError
        One of the halves is empty, or the split column needs ``values`` to be understood.
    """
    by = validation.by or ("column" if index.has("split") else "cells")
    if by == "cells":
        return None
    role = "split" if by == "column" else "replicate"
    values = index.values(role).to_numpy(dtype=str)
    column = index.roles[role]
    present = sorted(set(values) - {""}, key=natural_key)
    held = validation.values
    for key, names in (("values", held), ("training", validation.training)):
        for name in names:
            if name not in present:
                raise ConfigError(
                    f"train.validation.{key} names `{name}`, which {column} of {index.path.name} "
                    f"does not have{nearest(name, present)}; it has {listing(present)}"
                )
    if not held and by == "column":
        if not set(present) <= {"0", "1"}:
            raise DataError(
                f"{column} of {index.path.name} holds {listing(present)}; it must hold 0 for "
                "training and 1 for validation, or train.validation.values must name what is "
                "held out"
            )
        held = ("1",)
    held = held or tuple(present[-1:])
    held_out = np.isin(values, held)
    both = sorted(set(held) & set(validation.training), key=natural_key)
    if both:
        raise ConfigError(
            f"train.validation.training names {listing(both)} of {column}, which is held out; "
            "a value is either trained on or held out"
        )
    training = ~held_out & (values != "")
    if validation.training:
        training = np.isin(values, validation.training)
    for rows, name in ((training, "train on"), (held_out, "hold out")):
        if not rows.any():
            raise DataError(
                f"there is no site to {name}: {column} of {index.path.name} holds "
                f"{listing(present) or 'blanks only'}, and held out is {listing(held) or 'nothing'}"
            )
    blank = int((values == "").sum())
    other = int((~training & ~held_out).sum()) - blank
    left_out = {
        NotTrained.BLANK_SPLIT: blank,
        NotTrained.OTHER_SPLIT: other,
    }
    left_out = {reason: count for reason, count in left_out.items() if count}
    return ValidationSites(training, held_out, column, left_out)
