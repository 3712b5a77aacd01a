"""A project with made-up features of cells, for what comes after `profile`; it has no images."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import yaml

from deepprofiler.columns import CELL, SITE
from deepprofiler.project import Project
from deepprofiler.project.well_file import (
    FORMAT,
    VERSION,
    WellFeatures,
    WellProvenance,
    read_provenance,
    write_well,
)

COMPOUNDS, CONTROLS = 12, 4
SETTINGS = {"min_cells": 3, "baselines": False, "report": False}


def write_cells(
    path: Path,
    features: np.ndarray,
    names: list[str],
    layers: dict[str, list[int]],
    *,
    sites: np.ndarray | None = None,
    digest: str = "0",
) -> None:
    """Write a well file of cells; without ``sites`` half of them in each of two."""
    provenance = WellProvenance(
        plate=path.parent.name,
        well=path.stem,
        names=tuple(names),
        layers=layers,
        channels=("DNA",),
        crop_size=64,
        rescale="min-max",
        checkpoint="last",
        digest=digest,
    )
    if sites is None:
        sites = np.sort(np.resize(["1", "2"], len(features)))
    cells = pd.DataFrame({SITE: sites, CELL: np.arange(len(features))})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_well(path, WellFeatures(features.astype(np.float32), cells, provenance))


def link_cells(path: Path, first: Path) -> None:
    """Write a well file whose cells are those of another."""
    provenance = replace(read_provenance(first), plate=path.parent.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": FORMAT, "version": VERSION})
        file["uns/deepprofiler/provenance"] = provenance.to_json()
        for name in ("X", "obs"):
            file[name] = h5py.ExternalLink(str(first.resolve()), name)


@dataclass
class MadeFeatures:
    """Twelve compounds of four mechanisms and four control wells on each plate.

    Parameters
    ----------
    root : Path
    layers : dict
        Layer to its number of features.
    strength : dict
        Layer to how far mechanisms lie apart in it; 1 where it says nothing.
    cells : int
        Of each of a well's two sites.
    linked : bool
        Whether all plates are links to the files of the first.
    settings : dict
        Of the section ``analyze``.
    """

    root: Path
    layers: dict[str, int]
    strength: dict[str, float] = field(default_factory=dict)
    plates: int = 4
    cells: int = 10
    linked: bool = False
    settings: dict = field(default_factory=dict)

    @property
    def project(self) -> Project:
        return Project(self.root, cores=1)

    @property
    def rows(self) -> list[dict[str, str]]:
        """Index, a line for each of two sites of each well."""
        rows = []
        for number in range(self.plates):
            for well in range(COMPOUNDS + CONTROLS):
                treated = well < COMPOUNDS
                row = {
                    "Metadata_Plate": f"P{number + 1}",
                    "Metadata_Well": f"A{well + 1:02}",
                    "Metadata_Compound": f"c{well}" if treated else "DMSO",
                    "Metadata_Treatment": f"c{well}" if treated else "DMSO",
                    "Metadata_Mechanism": f"m{well // 3}" if treated else "",
                    "Metadata_Control": "" if treated else "negative",
                }
                rows += [row | {"Metadata_Site": site, "DNA": "none.tif"} for site in "12"]
        return rows

    def write(self) -> MadeFeatures:
        self.write_index(self.rows)
        self.write_config()
        self.write_features()
        return self

    def write_index(self, rows: list[dict[str, str]]) -> None:
        path = self.root / "inputs" / "metadata" / "index.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def write_config(self, **settings: object) -> None:
        config = {
            "dataset": {"channels": ["DNA"]},
            "crops": {"size": 64},
            "analyze": SETTINGS | self.settings | settings,
        }
        path = self.root / "inputs" / "config" / "config.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(config))

    def write_features(self, layers: list[str] | None = None, *, digest: str = "0") -> None:
        """Write all well files, with all layers or with some; the numbers are the same."""
        kept = list(self.layers) if layers is None else layers
        ends = np.cumsum([0, *(self.layers[layer] for layer in kept)]).tolist()
        columns = {layer: ends[i : i + 2] for i, layer in enumerate(kept)}
        for number in range(self.plates):
            for well in range(COMPOUNDS + CONTROLS):
                path = self.project.well_path(f"P{number + 1}", f"A{well + 1:02}")
                if self.linked and number:
                    link_cells(path, self.project.well_path("P1", path.stem))
                    continue
                blocks = [self._features(layer, number, well) for layer in kept]
                names = [f"{layer}_{i}" for layer in kept for i in range(self.layers[layer])]
                found = np.concatenate(blocks, axis=1)
                write_cells(path, found, names, columns, digest=digest)

    def _features(self, layer: str, plate: int, well: int) -> np.ndarray:
        """Cells of one well: mechanism, well and cell, each by chance."""
        size, seed = self.layers[layer], sum(map(ord, layer))
        mechanism = np.random.default_rng([seed, well // 3]).normal(size=size)
        noise = np.random.default_rng([seed, plate, well, 1])
        away = self.strength.get(layer, 1.0) * mechanism if well < COMPOUNDS else 0.0
        return 2 + away + noise.normal(size=size) + noise.normal(size=(2 * self.cells, size))
