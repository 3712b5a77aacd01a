"""Which sites are trained on, with which label, and which are held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepprofiler.columns import natural_key
from deepprofiler.errors import ConfigError, DataError, listing, nearest
from deepprofiler.project.index import Index

if TYPE_CHECKING:
    from deepprofiler.learning.learning_settings import Labels, Validation


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
    left_out: dict[str, int]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Sites to learn from and sites to watch, both (sites,) bool in the index's order."""

    training: np.ndarray
    validation: np.ndarray
    left_out: dict[str, int]


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
    left_out = {"with a blank label": int((~used).sum())}
    if not controls:
        negative = index.negative.to_numpy(dtype=bool) & used
        left_out["of negative controls"] = int(negative.sum())
        used &= ~negative
    if labels is not None:
        names = labels.include if labels.include is not None else labels.exclude
        _check_names(index, names or (), np.unique(values[used]).tolist())
        listed = np.isin(values, names or ())
        dropped = used & (~listed if labels.include is not None else listed)
        left_out["by train.labels"] = int(dropped.sum())
        used &= ~dropped
    left_out = {reason: count for reason, count in left_out.items() if count}
    classes, inverse = np.unique(values[used], return_inverse=True)
    if len(classes) < 2:
        without = "".join(f"; {count} sites {reason}" for reason, count in left_out.items())
        raise DataError(
            f"training needs at least 2 labels, but {column} of {index.path.name} has "
            f"{len(classes)} to train on ({listing(classes) or 'none'}){without}"
        )
    codes = np.full(len(values), -1, dtype=np.int64)
    codes[used] = inverse
    return TrainingLabels(tuple(classes.tolist()), codes, left_out)


def _check_names(index: Index, names: Sequence[str], known: list[str]) -> None:
    controls = set(index.values("label")[index.negative])
    lines = []
    for name in names:
        if name in known:
            continue
        if name in controls:
            lines.append(
                f"train.labels names `{name}`, the negative controls, which are trained on only "
                "with train.controls: true"
            )
        else:
            lines.append(
                f"train.labels names `{name}`, which is no label in {index.roles['label']} of "
                f"{index.path.name}{nearest(name, known)}"
            )
    if lines:
        raise ConfigError("\n".join(lines))


def validation_rows(index: Index, validation: Validation) -> HeldOut | None:
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
    HeldOut or None
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
    known = sorted(set(values) - {""}, key=natural_key)
    held = validation.values
    for key, names in (("values", held), ("training", validation.training)):
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"train.validation.{key} names `{name}`, which {column} of {index.path.name} "
                    f"does not have{nearest(name, known)}; it has {listing(known)}"
                )
    if not held and by == "column":
        if not set(known) <= {"0", "1"}:
            raise DataError(
                f"{column} of {index.path.name} holds {listing(known)}; it must hold 0 for "
                "training and 1 for validation, or train.validation.values must name what is "
                "held out"
            )
        held = ("1",)
    held = held or tuple(known[-1:])
    inside = np.isin(values, held)
    both = sorted(set(held) & set(validation.training), key=natural_key)
    if both:
        raise ConfigError(
            f"train.validation.training names {listing(both)} of {column}, which is held out; "
            "a value is for learning or for watching"
        )
    training = ~inside & (values != "")
    if validation.training:
        training = np.isin(values, validation.training)
    for rows, name in ((training, "train on"), (inside, "hold out")):
        if not rows.any():
            raise DataError(
                f"there is no site to {name}: {column} of {index.path.name} holds "
                f"{listing(known) or 'blanks only'}, and held out is {listing(held) or 'nothing'}"
            )
    blank = int((values == "").sum())
    other = int((~training & ~inside).sum()) - blank
    left_out = {
        f"with a blank in {column}": blank,
        f"with a {column} that train.validation does not name": other,
    }
    left_out = {reason: count for reason, count in left_out.items() if count}
    return HeldOut(training, inside, left_out)
