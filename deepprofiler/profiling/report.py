"""One self-contained HTML page that says what a screen showed.

The page is made from a :class:`Report` of plain values. Nothing is loaded from elsewhere: a
content security policy forbids it, and lets only the page's own script run. Every name is text.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deepprofiler.files import replacing
from deepprofiler.profiling.findings import Comparison, LeftOut, number, sentences

THUMBNAIL = 40
SHOWN_ROWS = 300
INLINE_PNG = 400_000
INLINE_DATA = 200_000


@dataclass(frozen=True)
class Picture:
    """A saved figure.

    Attributes
    ----------
    title, caption : str
        The caption also says what is seen to who cannot see it.
    image : Path
        PNG or SVG, put into the page.
    data : Path, optional
        CSV of what is drawn, offered beside it.
    """

    title: str
    caption: str
    image: Path
    data: Path | None = None


@dataclass(frozen=True)
class Table:
    """A table with a title and a note on what its columns mean."""

    title: str
    rows: pd.DataFrame
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page: paragraphs, pictures, tables."""

    title: str
    text: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Points:
    """One view of the interactive embedding.

    Attributes
    ----------
    name : str
        What a point is: ``wells``, ``treatments``, ``cells``.
    points : ndarray
        (n, 2), arbitrary units.
    about : str
        Method, perplexity and seed, and how many of how many are drawn.
    columns : DataFrame
        n rows. Every column can colour the points and is shown for a point; columns of numbers
        get a continuous scale.
    thumbnails : ndarray, optional
        (n, S, S, 3) uint8, shown with a point.
    """

    name: str
    points: np.ndarray
    about: str
    columns: pd.DataFrame
    thumbnails: np.ndarray | None = None


@dataclass(frozen=True)
class Neighbours:
    """The nearest neighbours of each treatment.

    Attributes
    ----------
    rows : DataFrame
        Columns ``query, query_group, neighbour, neighbour_group, similarity``, the nearest of a
        query first. A blank group is unknown.
    group : str
        What the groups are: ``mechanism``, ``gene``.
    similarity : str
        What the similarity is: ``cosine similarity``.
    """

    rows: pd.DataFrame
    group: str
    similarity: str


@dataclass(frozen=True)
class Report:
    """Everything that the page says.

    Attributes
    ----------
    title, subtitle : str
    facts : mapping
        Sizes of the screen for the first screen, such as ``{"cells": 17280}``.
    comparison : Comparison
        The learned profile beside its baselines.
    notes : tuple of str
        Further sentences for the first screen, such as warnings.
    left_out : tuple of LeftOut
    views : tuple of Points
    neighbours : Neighbours, optional
    sections : tuple of Section
    failures : DataFrame, optional
        One row per site or well that failed, with its reason.
    provenance : mapping
        Names to values: seed, checkpoint, its digest, versions, date.
    config : str
        The resolved configuration as text.
    """

    title: str
    subtitle: str
    facts: Mapping[str, int | float | str]
    comparison: Comparison
    left_out: tuple[LeftOut, ...]
    provenance: Mapping[str, str]
    config: str = ""
    notes: tuple[str, ...] = ()
    views: tuple[Points, ...] = ()
    neighbours: Neighbours | None = None
    sections: tuple[Section, ...] = ()
    failures: pd.DataFrame | None = None


def render(report: Report) -> str:
    """Make the page.

    Raises
    ------
    ValueError
        A view's points, columns and thumbnails differ in number.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    loader = PackageLoader("deepprofiler.profiling", "templates")
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    pages.filters |= {"number": number, "image": _image, "download": _download, "cell": _cell}
    parts = {name: loader.get_source(pages, f"report.{name}")[0] for name in ("css", "js")}
    digest = base64.b64encode(hashlib.sha256(parts["js"].encode()).digest()).decode()
    return pages.get_template("report.html").render(
        report=report,
        said=sentences(report.comparison, report.left_out),
        neighbours=_neighbours(report.neighbours),
        views=Markup(_json([_view(view) for view in report.views])),
        shown_rows=SHOWN_ROWS,
        style=Markup(parts["css"]),
        script=Markup(parts["js"]),
        script_digest=digest,
    )


def write(report: Report, path: Path) -> None:
    """Write the page to ``path``, whole or not at all. Raises like :func:`render`."""
    page = render(report)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _json(values: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(values, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _view(view: Points) -> dict[str, Any]:
    """Plain values of a view for the page's script."""
    count = len(view.columns)
    if view.points.shape != (count, 2):
        raise ValueError(f"{view.name}: points {view.points.shape} for {count} rows")
    span = float(np.ptp(view.points, axis=0).max()) if count else 1.0
    scaled = np.asarray(view.points, float) / (span or 1.0)
    values = {
        "name": view.name,
        "about": view.about,
        "x": scaled[:, 0].round(4).tolist(),
        "y": scaled[:, 1].round(4).tolist(),
        "columns": [_column(str(name), column) for name, column in view.columns.items()],
        "sheet": None,
    }
    if view.thumbnails is not None:
        if len(view.thumbnails) != count:
            raise ValueError(f"{view.name}: {len(view.thumbnails)} thumbnails for {count} rows")
        values["sheet"] = _sheet(view.thumbnails)
    return values


def _column(name: str, column: pd.Series) -> dict[str, Any]:
    """Numbers as they are (None where missing); text as codes into sorted levels."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        values = column.to_numpy(dtype=float, na_value=np.nan)
        numbers = [float(f"{value:.5g}") if np.isfinite(value) else None for value in values]
        return {"name": name, "numbers": numbers}
    codes, levels = pd.factorize(column.astype(str), sort=True)
    return {"name": name, "codes": codes.tolist(), "levels": list(levels)}


def _sheet(thumbnails: np.ndarray) -> dict[str, Any]:
    """All thumbnails (n, S, S, 3) in one JPEG, row by row."""
    step = max(1, thumbnails.shape[1] // THUMBNAIL)
    small = np.asarray(thumbnails, np.uint8)[:, ::step, ::step]
    count, side = small.shape[:2]
    across = max(1, int(np.ceil(np.sqrt(count))))
    sheet = np.zeros((across * across, side, side, 3), np.uint8)
    sheet[:count] = small
    pixels = sheet.reshape(across, across, side, side, 3).swapaxes(1, 2)
    pixels = pixels.reshape(across * side, across * side, 3)
    return {"image": _jpeg(pixels), "side": side, "across": across}


def _jpeg(pixels: np.ndarray) -> str:
    """Data address of an image (H, W, 3) uint8."""
    from matplotlib.image import imsave

    buffer = BytesIO()
    imsave(buffer, pixels, format="jpg", pil_kwargs={"quality": 85})
    return _address("image/jpeg", buffer.getvalue())


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _image(path: Path) -> str:
    """Data address of a figure; a large PNG, which is a photograph, becomes a JPEG."""
    content = path.read_bytes()
    if path.suffix == ".svg":
        return _address("image/svg+xml", content)
    if len(content) <= INLINE_PNG:
        return _address("image/png", content)
    from matplotlib.image import imread

    return _jpeg((imread(path)[..., :3] * 255).round().astype(np.uint8))


def _download(path: Path) -> str | None:
    """Data address of a CSV, None where it is too large for the page."""
    content = path.read_bytes()
    return _address("text/csv", content) if len(content) <= INLINE_DATA else None


def _cell(value: Any) -> str:
    """A table's value as a reader writes it."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return "–"
    return number(value) if isinstance(value, int | float | np.number) else str(value)


def _neighbours(neighbours: Neighbours | None) -> list[dict[str, Any]]:
    """One entry per query, with its neighbours in order."""
    if neighbours is None:
        return []
    found = []
    for query, rows in neighbours.rows.groupby("query", sort=False):
        group = str(rows["query_group"].iloc[0])
        others = [
            {
                "name": str(name),
                "group": str(other),
                "similarity": float(similarity),
                "same": None if "" in (group, other) else group == other,
            }
            for name, other, similarity in zip(
                rows["neighbour"], rows["neighbour_group"], rows["similarity"], strict=True
            )
        ]
        found.append({"name": str(query), "group": group, "others": others})
    return found
