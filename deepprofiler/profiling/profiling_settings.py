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
        text="what a well's profile is: the mean over its cells, their median, or the mean of the "
        "medians of its sites; a treatment's is the mean over its wells, with `median` their "
        "median",
    )
    layer: str | None = setting(
        None,
        Decides.NORMALIZED,
        text="the one of `profile.layers` that profiles are made of; none: conv4a, or the first "
        "where that is not among them",
    )
    weight: Weight = setting(
        "cells",
        Decides.SCORES,
        text="a treatment's profile counts each well as often as it has cells, or once",
    )
    min_cells: int = setting(
        10,
        Decides.PROFILES,
        text="wells with fewer take no part in fits, scores and treatment profiles",
        unit="cells",
        ge=0,
    )
    normalize: tuple[Choice, ...] | None = setting(
        None,
        Decides.NORMALIZED,
        text="normalizers in order; none: standardize, then tvn where all batches have controls",
    )
