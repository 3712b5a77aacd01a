"""Settings of profiles: how cells are aggregated and wells normalized."""

from __future__ import annotations

from typing import Literal

from deepprofiler.parameters import Choice, Decides, Parameters, setting

Aggregate = Literal["mean", "median", "site-medians"]
Weight = Literal["cells", "wells"]


class Profiling(Parameters):
    """From features of cells to normalized profiles."""

    aggregate: Aggregate = setting(
        "mean",
        Decides.PROFILES,
        text="profile of a well: mean of its cells, median of its cells, or mean of the medians of "
        "its sites; the profile of a treatment is the mean of its wells (with `median` the median)",
    )
    layer: str | None = setting(
        None,
        Decides.NORMALIZED,
        text="layer of `profile.layers` that profiles are made of; none: conv4a if listed, else "
        "the first",
    )
    weight: Weight = setting(
        "cells",
        Decides.SCORES,
        text="weight of a well in the profile of its treatment: its number of cells, or 1",
    )
    min_cells: int = setting(
        10,
        Decides.PROFILES,
        text="wells with fewer are left out of fits, scores and profiles of treatments",
        unit="cells",
        ge=0,
    )
    normalize: tuple[Choice, ...] | None = setting(
        None,
        Decides.NORMALIZED,
        text="normalizers in order; none: standardize, then tvn where all batches have controls",
    )
