"""Settings of the report page.

The config schema is built of them; reading them loads neither matplotlib nor pandas.
"""

from __future__ import annotations

from typing import Literal

from deepprofiler.parameters import Decides, Parameters, setting


class Reporting(Parameters):
    """From scores to a page."""

    report: bool = setting(True, Decides.REPORT, text="write the report page")
    embedding: Literal["tsne", "umap"] = setting(
        "tsne",
        Decides.REPORT,
        text="method for the maps of the report; umap needs the extra `umap`",
    )
