"""What a cell looks like, as numbers, and how each mechanism moves them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Phenotype:
    """Medians of a population of cells; the defaults are untreated cells.

    Every parameter is positive, so that effects are factors and multiply.

    Parameters
    ----------
    nucleus_area : float
        All of a cell's nuclei together, µm².
    nucleus_elongation, cell_elongation : float
        Long axis over short axis; below 1 counts as 1.
    chromatin : float
        Contrast of the DNA texture, standard deviation over mean.
    nuclei : float
        Mean number of nuclei or fragments per cell, at least 1.
    nucleoli, filaments, fibres, clumps, vesicles, mitochondria : float
        Mean number per cell: nucleoli, microtubules, actin stress fibres, actin aggregates,
        vesicles, mitochondria.
    cell_area : float
        µm².
    roughness : float
        Amplitude of the outline's lobes, relative to the radius.
    cytoplasm : float
        Brightness of the cytoplasm relative to untreated cells.
    mitotic : float
        Share of cells in mitosis (round, with condensed DNA), 0 to 1.
    bundling : float
        Microtubules that run together in one bundle.
    soluble : float
        Tubulin that is in no microtubule, relative brightness.
    cortex : float
        Actin along the outline, relative brightness.
    """

    nucleus_area: float = 180.0
    nucleus_elongation: float = 1.25
    chromatin: float = 0.16
    nuclei: float = 1.0
    nucleoli: float = 3.0
    cell_area: float = 1000.0
    cell_elongation: float = 1.35
    roughness: float = 0.07
    cytoplasm: float = 1.0
    mitotic: float = 0.03
    filaments: float = 55.0
    bundling: float = 1.0
    soluble: float = 0.3
    fibres: float = 14.0
    cortex: float = 0.6
    clumps: float = 1.5
    vesicles: float = 3.0
    mitochondria: float = 60.0

    def times(self, factors: Mapping[str, float], strength: float = 1.0) -> Phenotype:
        """Multiply parameters by ``factor ** strength``; strength 0 changes nothing."""
        moved = {name: getattr(self, name) * factor**strength for name, factor in factors.items()}
        return replace(self, **moved)

    def sample(
        self, number: int, spread: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        """Parameters of single cells, log-normal about the medians.

        Parameters
        ----------
        number : int
            N cells.
        spread : float
            Standard deviation of the logarithm of every parameter.
        rng : numpy.random.Generator

        Returns
        -------
        dict of str to ndarray (N,)
            One array per parameter, in its unit.
        """
        return {
            name: median * np.exp(rng.normal(0, spread, number))
            for name, median in asdict(self).items()
        }


NAMES: tuple[str, ...] = tuple(asdict(Phenotype()))

# Factor of each parameter at full strength. What they are modelled on: the mechanisms of BBBC021
# (Ljosa et al. 2013) as the images show them.
MECHANISMS: dict[str, dict[str, float]] = {
    "DNA damage": {
        "nucleus_area": 1.7,
        "cell_area": 1.35,
        "chromatin": 0.6,
        "nucleoli": 0.4,
        "mitotic": 0.1,
        "fibres": 1.4,
    },
    "Microtubule stabilizers": {
        "bundling": 7.0,
        "nuclei": 2.4,
        "nucleus_area": 1.15,
        "filaments": 1.2,
        "cell_elongation": 0.85,
        "mitotic": 2.5,
    },
    "Microtubule destabilizers": {
        "filaments": 0.06,
        "soluble": 2.2,
        "cell_elongation": 0.7,
        "cell_area": 0.8,
        "roughness": 0.5,
        "mitotic": 3.0,
    },
    "Actin disruptors": {
        "fibres": 0.05,
        "clumps": 9.0,
        "cortex": 0.45,
        "cell_area": 0.75,
        "roughness": 2.2,
    },
    "Kinase inhibitors": {
        "cell_elongation": 2.1,
        "nucleus_elongation": 1.3,
        "fibres": 0.5,
        "cortex": 1.3,
        "mitotic": 0.3,
    },
    "Protein synthesis": {
        "cell_area": 0.72,
        "cytoplasm": 0.5,
        "nucleoli": 0.25,
        "chromatin": 1.7,
        "filaments": 0.55,
        "mitochondria": 0.5,
        "mitotic": 0.2,
    },
    "Aurora kinase inhibitors": {
        "nuclei": 4.5,
        "nucleus_area": 1.5,
        "cell_area": 1.3,
        "chromatin": 1.2,
        "mitotic": 0.3,
    },
    "Cholesterol-lowering": {
        "cell_area": 0.62,
        "cell_elongation": 1.7,
        "vesicles": 7.0,
        "nucleus_area": 0.8,
        "fibres": 0.4,
        "roughness": 1.5,
    },
}
