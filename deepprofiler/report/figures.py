"""The style of all figures, and how they are saved."""

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

# Okabe and Ito (2008): distinguishable with every common colour vision; the pale yellow is last.
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
    # A name such as `$5` is text, not a formula.
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
    """Context manager and decorator: draw in the style of the report."""
    import matplotlib

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # The SVG keeps every character; only the PNG shows a box for a missing one.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


def empty(width: float, height: float) -> Figure:
    """Make an empty figure (inches) that arranges its parts itself and sets no global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def short(text: str, length: int = 28) -> str:
    """Shorten a long name in the middle, and replace line breaks and control characters."""
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
        Created if it does not exist.
    name : str
        File name without extension: lower-case letters, digits and hyphens. Names that come from a
        user must not be used.
    data : DataFrame
        What is drawn.

    Returns
    -------
    Saved

    Raises
    ------
    ValueError
        ``name`` has another character.
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) is None:
        raise ValueError(f"{name!r} cannot be the name of a figure: use a-z, 0-9 and hyphens")
    saved = Saved(*(folder / f"{name}.{ending}" for ending in ("png", "svg", "csv")))
    with style():
        with replacing(saved.png) as path:
            figure.savefig(path, format="png", metadata={"Software": None})
        with replacing(saved.svg) as path:
            figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    with replacing(saved.data) as path:
        data.to_csv(path, index=False)
    return saved


class FigureFolder:
    """The folder of a report, with the figures that were saved into it.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: set[str] = set()

    def save(self, figure: Figure, name: str, data: pd.DataFrame) -> Saved:
        """Save a figure and its data, see :func:`save`."""
        self._names.add(name)
        return save(figure, self.folder, name, data)

    def remove_others(self) -> None:
        """Remove the figures of an earlier report that were not saved again."""
        for png in self.folder.glob("*.png"):
            files = [png, png.with_suffix(".svg"), png.with_suffix(".csv")]
            # A figure of a report has all three files; others belong to the user.
            if png.stem not in self._names and all(path.exists() for path in files):
                for path in files:
                    path.unlink()
