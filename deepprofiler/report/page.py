"""The report as one self-contained HTML page.

A :class:`Page` holds plain values; :func:`render` puts them into the templates. The page loads
nothing from elsewhere: its content security policy forbids it, and allows only the page's own
script to run. Every name is escaped.
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
from deepprofiler.report.explore import Neighbours, PlateWells, PointMap, Similarities
from deepprofiler.report.findings import Comparison, LeftOutCount, summarize
from deepprofiler.report.wording import column_label, number

# A PNG larger than this many bytes is a photograph, which is smaller as a JPEG.
_LARGEST_PNG = 400_000
# A CSV larger than this many bytes is not put into the page.
_LARGEST_DATA = 200_000
_ROWS_SHOWN = 300
# Scripts are joined in this order; each uses the definitions of those before it.
_SCRIPTS = ("common", "map", "plates", "similarity", "search")


@dataclass(frozen=True)
class Picture:
    """A saved figure.

    Attributes
    ----------
    title, caption : str
        Together they are also the text for readers who cannot see the picture.
    image : Path
        PNG or SVG, which is put into the page.
    data : Path, optional
        CSV of what is drawn, offered as a download.
    half : bool
        Whether two such pictures fit beside each other.
    folded : bool
        Whether it is hidden until the reader opens it.
    """

    title: str
    caption: str
    image: Path
    data: Path | None = None
    half: bool = False
    folded: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    title : str
    rows : DataFrame
        Shown as it is, under the names of its columns.
    note : str
        What its columns and marks mean.
    bold : ndarray, optional
        (rows, columns) bool: values to show in bold.
    folded : bool
        Whether it is hidden until the reader opens it.
    """

    title: str
    rows: pd.DataFrame
    note: str = ""
    bold: np.ndarray | None = None
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page: paragraphs, tables, pictures, and notes in small print."""

    title: str
    text: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.text or self.pictures or self.tables or self.notes)


@dataclass(frozen=True)
class Page:
    """Everything that the page shows.

    Attributes
    ----------
    title, subtitle : str
    facts : mapping
        Sizes of the screen, such as ``{"cells": 17280}``.
    comparison : Comparison
        The learned profile and its baselines.
    left_out : tuple of LeftOutCount
    provenance : mapping
        Names to values: seed, weights and their digest, versions, date.
    config : str
        The resolved configuration as text.
    warnings : tuple of str
        Sentences for the top of the page.
    results : tuple of Section
        Shown below the comparison.
    maps : tuple of PointMap
    similarities : Similarities, optional
    neighbours : Neighbours, optional
    wells : PlateWells, optional
    sections : tuple of Section
        Shown below the interactive parts.
    failures : DataFrame, optional
        One row per site, well or cell that failed, with its reason.
    """

    title: str
    subtitle: str
    facts: Mapping[str, int | float | str]
    comparison: Comparison
    left_out: tuple[LeftOutCount, ...]
    provenance: Mapping[str, str]
    config: str = ""
    warnings: tuple[str, ...] = ()
    results: tuple[Section, ...] = ()
    maps: tuple[PointMap, ...] = ()
    similarities: Similarities | None = None
    neighbours: Neighbours | None = None
    wells: PlateWells | None = None
    sections: tuple[Section, ...] = ()
    failures: pd.DataFrame | None = None


def write(page: Page, path: Path) -> None:
    """Write the page to ``path``, whole or not at all.

    Raises
    ------
    ValueError
        As for :func:`render`.
    """
    text = render(page)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def render(page: Page) -> str:
    """Make the HTML of a page.

    Raises
    ------
    ValueError
        The points, columns and thumbnails of a map differ in number, or wells and their values do.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    loader = PackageLoader("deepprofiler.report", "templates")
    templates = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    templates.filters |= {
        "number": number,
        "cell": _cell_text,
        "label": column_label,
        "image": _image_address,
        "download": _data_address,
    }
    script = "".join(loader.get_source(templates, f"{name}.js")[0] for name in _SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    script_data: dict[str, Any] = {
        "maps": [_map_data(points) for points in page.maps],
        "similarities": page.similarities and page.similarities.script_data(),
        "wells": page.wells and page.wells.script_data(),
    }
    return templates.get_template("report.html").render(
        page=page,
        summary=summarize(page.comparison, page.left_out),
        script_data={
            name: Markup(_safe_json(data)) if data else None for name, data in script_data.items()
        },
        rows_shown=_ROWS_SHOWN,
        style=Markup(loader.get_source(templates, "report.css")[0]),
        script=Markup(script),
        script_digest=digest,
    )


def _map_data(points: PointMap) -> dict[str, Any]:
    """Values of a map for the script, with all thumbnails in one image."""
    data = points.script_data()
    sheet = points.thumbnail_sheet()
    if sheet is not None:
        data["sheet"] |= {"image": _jpeg_address(sheet)}
    return data


def _safe_json(values: Any) -> str:
    """JSON that cannot end the script element that holds it."""
    text = json.dumps(values, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _cell_text(value: Any) -> str:
    """A value of a table as text."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return "–"
    return number(value) if isinstance(value, int | float | np.number) else str(value)


def _image_address(path: Path) -> str:
    """Data address of a figure; a large PNG, which is a photograph, becomes a JPEG."""
    content = path.read_bytes()
    if path.suffix == ".svg":
        return _data_url("image/svg+xml", content)
    if len(content) <= _LARGEST_PNG:
        return _data_url("image/png", content)
    from matplotlib.image import imread

    return _jpeg_address((imread(path)[..., :3] * 255).round().astype(np.uint8))


def _data_address(path: Path) -> str | None:
    """Data address of a CSV; None where it is too large for the page."""
    content = path.read_bytes()
    return _data_url("text/csv", content) if len(content) <= _LARGEST_DATA else None


def _jpeg_address(pixels: np.ndarray) -> str:
    """Data address of an image (H, W, 3) uint8 as JPEG."""
    from matplotlib.image import imsave

    buffer = BytesIO()
    imsave(buffer, pixels, format="jpg", pil_kwargs={"quality": 85})
    return _data_url("image/jpeg", buffer.getvalue())


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
