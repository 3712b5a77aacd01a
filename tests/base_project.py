"""The small project that most cases change: two plates, six wells each, 24 sites, 120 cells."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import tifffile
import yaml

CHANNELS = ("DNA", "ER", "AGP")
SIZE = 256
CELLS = 5
LAYOUT = {"A01": "DMSO", "B01": "DMSO", "A02": "T1", "B02": "T1", "A03": "T2", "B03": "T2"}


@cache
def scene(seed: int, shape: tuple[int, int] = (SIZE, SIZE)) -> tuple[np.ndarray, np.ndarray]:
    """A field (H, W, 3) float in 0…1 with five cells, and their centres (5, 2) as x, y."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    centers = np.stack([rng.uniform(40, side - 40, CELLS) for side in shape[::-1]], axis=1)
    image = np.full((*shape, 3), 0.05)
    for cx, cy in centers:
        distance = np.hypot(x - cx, y - cy)
        for channel, (radius, height) in enumerate([(9, 0.8), (20, 0.4), (16, 0.5)]):
            image[:, :, channel] += height * np.exp(-((distance / radius) ** 4))
    image += rng.normal(0, 0.005, image.shape)
    image = np.clip(image, 0, 1)
    image.flags.writeable = centers.flags.writeable = False
    return image, centers


@dataclass
class BaseProject:
    """A project folder whose parts a test may change before it calls :meth:`write`."""

    root: Path
    shape: tuple[int, int] = (SIZE, SIZE)
    plates: tuple[str, ...] = ("P1", "P2")
    sites: tuple[str, ...] = ("1", "2")
    config: dict = field(
        default_factory=lambda: {
            "dataset": {"channels": list(CHANNELS)},
            "crops": {"size": 64},
            "train": {"epochs": 1, "steps": 2, "batch_size": 8, "augment": {"shift": 0}},
            "profile": {"layers": ["conv2a"], "batch_size": 16},
        }
    )
    rows: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for batch, plate in enumerate(self.plates, 1):
            for well, treatment in LAYOUT.items():
                for site in self.sites:
                    row = {"Metadata_Plate": plate, "Metadata_Well": well, "Metadata_Site": site}
                    row |= {c: f"{plate}/{well}_s{site}_{c}.tif" for c in CHANNELS}
                    row |= {
                        "Metadata_Treatment": treatment,
                        "Metadata_Control": "negative" if treatment == "DMSO" else "",
                        "Metadata_Batch": str(batch),
                        "Metadata_Replicate": well[0],
                    }
                    self.rows.append(row)

    @property
    def index(self) -> Path:
        return self.root / "inputs" / "metadata" / "index.csv"

    @property
    def images(self) -> Path:
        return self.root / "inputs" / "images"

    def image(self, plate: str = "P1", well: str = "A01", site: str = "1", channel: str = "DNA"):
        return self.images / plate / f"{well}_s{site}_{channel}.tif"

    def location(self, plate: str = "P1", well: str = "A01", site: str = "1") -> Path:
        return self.root / "inputs" / "locations" / plate / f"{well}-{site}-Nuclei.csv"

    def well_file(self, plate: str = "P1", well: str = "A01", experiment: str = "results") -> Path:
        return self.root / "outputs" / experiment / "features" / plate / f"{well}.h5"

    def write(self) -> BaseProject:
        for number, row in enumerate(self.rows):
            plate, well, site = (row[f"Metadata_{k}"] for k in ("Plate", "Well", "Site"))
            image, centers = scene(number, self.shape)
            for channel, name in enumerate(CHANNELS):
                path = self.images / row[name]
                path.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(path, (image[:, :, channel] * 4095).astype(np.uint16))
            self.write_locations(centers, plate, well, site)
        self.write_index()
        self.write_config()
        return self

    def write_locations(self, centers, plate="P1", well="A01", site="1") -> None:
        path = self.location(plate, well, site)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = ["Nuclei_Location_Center_X,Nuclei_Location_Center_Y"]
        path.write_text("\n".join([*lines, *(f"{x},{y}" for x, y in centers)]) + "\n")

    def write_index(self) -> None:
        self.index.parent.mkdir(parents=True, exist_ok=True)
        with self.index.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)

    def write_config(self) -> None:
        path = self.root / "inputs" / "config" / "config.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(self.config))
