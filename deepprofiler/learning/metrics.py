"""How well validation cells are told apart: NumPy only."""

from __future__ import annotations

import numpy as np


def accuracies(logits: np.ndarray, label: np.ndarray, top_k: int) -> dict[str, float]:
    """Compare what a network says with what is true.

    Parameters
    ----------
    logits : (N, K) array
        The largest of a row is the network's choice, the first of equals.
    label : (N,) int array
        True classes; those without cells are left out of every mean over classes.
    top_k : int
        For ``val_top_<k>_accuracy``, which is left out where k classes are all there are.

    Returns
    -------
    dict
        ``val_accuracy``
            Share of cells whose class is the network's choice.
        ``val_top_<k>_accuracy``
            Share of cells whose class is among its k likeliest.
        ``val_macro_accuracy``
            Mean over classes of the share of a class's cells that are found (mean recall).
        ``val_macro_precision``
            Mean over classes of the share of right choices among those of a class; 0 for a class
            that is never chosen.
        ``val_macro_f1``
            Mean over classes of the harmonic mean of both.
    """
    classes = logits.shape[1]
    order = np.argsort(-logits, axis=1, kind="stable")
    chosen = order[:, 0]
    cells = np.bincount(label, minlength=classes)
    choices = np.bincount(chosen, minlength=classes)
    right = np.bincount(label[chosen == label], minlength=classes)
    present = cells > 0
    figures = {"val_accuracy": right.sum() / len(label)}
    if top_k < classes:
        among = (order[:, :top_k] == label[:, np.newaxis]).any(axis=1)
        figures[f"val_top_{top_k}_accuracy"] = among.mean()
    figures |= {
        "val_macro_accuracy": np.mean(right[present] / cells[present]),
        "val_macro_precision": np.mean(right[present] / np.maximum(choices[present], 1)),
        "val_macro_f1": np.mean(2 * right[present] / (cells + choices)[present]),
    }
    return {name: float(value) for name, value in figures.items()}
