"""One self-contained HTML page that says what a screen showed.

The page is made from a :class:`Report` of plain values. Nothing is loaded from elsewhere: a
content security policy forbids it, and lets only the page's own script run. Every name is text.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from deepprofiler.files import replacing
from deepprofiler.profiling.embedded import (
    as_json,
    cell_text,
    data_address,
    image_address,
    neighbour_rows,
    similarity_values,
    view_values,
    wells_values,
)
from deepprofiler.profiling.findings import number, sentences
from deepprofiler.profiling.page import Report

SHOWN_ROWS = 300
# In this order: each uses what stands in those before.
SCRIPTS = ("common", "map", "plates", "similarity", "search")


def render(report: Report) -> str:
    """Make the page.

    Raises
    ------
    ValueError
        A view's points, columns and thumbnails differ in number, or wells and their values do.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    loader = PackageLoader("deepprofiler.profiling", "templates")
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    pages.filters |= {
        "number": number,
        "image": image_address,
        "download": data_address,
        "cell": cell_text,
    }
    script = "".join(loader.get_source(pages, f"{name}.js")[0] for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    similarities, wells = report.similarities, report.wells
    values = {
        "views": [view_values(view) for view in report.views],
        "similarities": None if similarities is None else similarity_values(similarities),
        "wells": None if wells is None else wells_values(wells),
    }
    return pages.get_template("report.html").render(
        report=report,
        said=sentences(report.comparison, report.left_out),
        neighbours=neighbour_rows(report.neighbours),
        values={name: Markup(as_json(value)) if value else None for name, value in values.items()},
        shown_rows=SHOWN_ROWS,
        style=Markup(loader.get_source(pages, "report.css")[0]),
        script=Markup(script),
        script_digest=digest,
    )


def write(report: Report, path: Path) -> None:
    """Write the page to ``path``, whole or not at all. Raises like :func:`render`."""
    page = render(report)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
