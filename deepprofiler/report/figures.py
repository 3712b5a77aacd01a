"""How every figure looks, and how it is saved."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from deepprofiler.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito (2008): told apart with every common colour vision; the pale yellow comes last.
OKABE_ITO = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#4D4D4D",
    "#F0E442",
)
MARKERS = ("o", "^", "s", "D")
INK = "#1b2733"
FAINT = "#d5dbe1"
QUIET = "#8a96a3"
SEQUENTIAL = "viridis"

_STYLE: dict[Any, Any] = {
    # A name such as `$5` is text, never a formula.
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": "white",
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.08,
    "savefig.dpi": 150,
    "svg.fonttype": "none",
    "svg.hashsalt": "deepprofiler",
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the house style within this block (or, as a decorator, this function)."""
    import matplotlib

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # The SVG keeps every character; only the PNG shows a box for one that the font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


def empty(width: float, height: float) -> Figure:
    """Make an empty figure (inches) that fits its parts by itself and touches no global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def short(text: str, length: int = 28) -> str:
    """Cut the middle out of a long name, and line breaks and control characters."""
    plain = "".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in text)
    if len(plain) <= length:
        return plain or "(blank)"
    half = (length - 1) // 2
    return f"{plain[: length - 1 - half]}…{plain[-half:]}"


@dataclass(frozen=True)
class Saved:
    """The three files of a figure."""

    png: Path
    svg: Path
    data: Path


def save(figure: Figure, folder: Path, name: str, data: pd.DataFrame) -> Saved:
    """Write a figure as PNG and SVG, and its data as CSV beside them, each whole or not at all.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    folder : Path
        Made where absent.
    name : str
        File name without ending: lower-case letters, digits and hyphens. Names that come from a
        user are no file names.
    data : DataFrame
        What is drawn.

    Returns
    -------
    Saved

    Raises
    ------
    ValueError
        ``name`` holds another character.
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) is None:
        raise ValueError(f"{name!r} is not a figure's name: use a-z, 0-9 and hyphens")
    saved = Saved(*(folder / f"{name}.{ending}" for ending in ("png", "svg", "csv")))
    with style():
        with replacing(saved.png) as path:
            figure.savefig(path, format="png", metadata={"Software": None})
        with replacing(saved.svg) as path:
            figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    with replacing(saved.data) as path:
        data.to_csv(path, index=False)
    return saved
