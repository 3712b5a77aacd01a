"""All that a report is made of, as values: tables, profiles, scores, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from deepprofiler.evaluation.scores import Scores
from deepprofiler.evaluation.screen import Screen
from deepprofiler.profiling.chain import Chain
from deepprofiler.profiling.profiles import Profiles


@dataclass(frozen=True)
class PlateIllumination:
    """Illumination functions of a plate.

    Attributes
    ----------
    function : ndarray, (H, W, C) float32
        How many times brighter than the dimmest part each pixel is lit; at least 1.
    percentiles : ndarray, (C, 2)
        Intensities that become 0 and 255 in 8-bit copies.
    """

    function: np.ndarray
    percentiles: np.ndarray


@dataclass(frozen=True)
class CellPictures:
    """Colour pictures of the sampled cells, see :func:`~deepprofiler.report.pictures.composite`.

    Attributes
    ----------
    thumbnails : ndarray, (n, s, s, 3) uint8
        One small picture per sampled cell, black where a cell has no crop.
    examples : mapping
        From rows of the sample (those of
        :func:`~deepprofiler.report.sections.example_cells`) to pictures (S, S, 3) uint8.
    """

    thumbnails: np.ndarray
    examples: Mapping[int, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """All that a report is made of.

    Attributes
    ----------
    title, experiment : str
        Names of the project and of the experiment.
    plates, channels : sequence of str
        Of the index, in its order.
    sites : int
        Number of sites in the index.
    min_cells : int
        Wells with fewer cells are left out of fits and scores.
    seed : int
        Of the maps, and of the cells, wells or treatments that are sampled for them.
    embedding : {"tsne", "umap"}
        Method of the maps.
    counts : DataFrame
        Every well of the index: its metadata, its number of cells, and whether these are too few.
    screen : Screen
        Normalized wells with enough cells.
    chain : Chain
        The fitted normalization.
    normalization_notes : sequence of str
        What its steps were fitted on, in words.
    sample : Profiles
        Single cells, sampled evenly from all wells, before normalization.
    features : int
        Number of features before normalization.
    methods : sequence of Scores
        The learned profile first, then its baselines.
    normalizations : mapping
        From names of normalizations to the scores of the same features under each; the scores of
        the configured one are those of the first method.
    neighbours : DataFrame or None
        As in ``neighbours.csv``; None without treatments.
    failed_sites : int
        Sites without features.
    not_finite_cells : int
        Cells that are left out because a feature is not finite.
    failures : DataFrame or None
        Columns ``plate, well, site, cell, stage, reason``, one row per failed site, well or cell.
    layers : DataFrame or None
        Columns ``layer, normalization, metric, value, n, low, high``; None with one layer.
    quality : DataFrame or None
        Per well: plate, well, and columns such as ``Intensity_DNA`` and ``Focus_DNA``; None where
        nothing was measured.
    illumination : mapping
        From the first plates to their illumination functions.
    history : DataFrame or None
        Training history, one row per epoch; None without training.
    cell_pictures : CellPictures or None
        None where there are no crops.
    no_cell_pictures : str
        Why there are none.
    provenance : mapping
        Names to values: seed, weights and their digest, versions, date.
    config : str
        The resolved configuration, as YAML.
    """

    title: str
    experiment: str
    plates: Sequence[str]
    channels: Sequence[str]
    sites: int
    min_cells: int
    seed: int
    embedding: Literal["tsne", "umap"]
    counts: pd.DataFrame
    screen: Screen
    chain: Chain
    normalization_notes: Sequence[str] = ()
    sample: Profiles
    features: int
    methods: Sequence[Scores]
    normalizations: Mapping[str, Scores]
    neighbours: pd.DataFrame | None = None
    failed_sites: int = 0
    not_finite_cells: int = 0
    failures: pd.DataFrame | None = None
    layers: pd.DataFrame | None = None
    quality: pd.DataFrame | None = None
    illumination: Mapping[str, PlateIllumination] = field(default_factory=dict)
    history: pd.DataFrame | None = None
    cell_pictures: CellPictures | None = None
    no_cell_pictures: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)
    config: str = ""
