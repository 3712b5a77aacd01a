"""Settings of a simulated screen, with units."""

from __future__ import annotations

from dataclasses import dataclass, field

from deepprofiler.errors import ConfigError
from deepprofiler.simulate.draw import FIVE_CHANNELS, STAINS, THREE_CHANNELS
from deepprofiler.simulate.phenotype import MECHANISMS


@dataclass(frozen=True)
class Nuisance:
    """Technical variation that microscopes, batches and plates add to the images.

    A pixel of channel c is ``offset + v · (background · b + gain · p · signal)`` plus noise, where
    v is the vignetting, b and gain are factors of the batch, and p is a factor of the well's
    position on the plate.

    Parameters
    ----------
    vignetting : float
        Loss of light in the corners: v = 1 − vignetting · (distance from the centre / distance
        of the corners)².
    batch_gain : float
        Standard deviation, between batches, of the logarithm of each stain's gain.
    batch_background : float
        Standard deviation, between batches, of the logarithm of each channel's background.
    background : float
        Grey levels of the medium, in the centre of the field.
    offset : float
        Grey levels of the camera without light.
    blur : float
        Standard deviation of the point spread in focus, µm.
    batch_blur, site_blur : float
        Standard deviation, between batches and between sites, of the logarithm of the point
        spread.
    column_gain : float
        Relative rise of every stain from a plate's first to its last column.
    edge_cells : float
        Number of cells in a plate's outer wells, relative to the others.
    count_spread : float
        Standard deviation, between wells, of the logarithm of the number of cells.
    shot_noise : float
        Variance of a pixel per grey level of light, grey levels.
    read_noise : float
        Standard deviation of every pixel, grey levels.
    """

    vignetting: float = 0.4
    batch_gain: float = 0.35
    batch_background: float = 0.25
    background: float = 400.0
    offset: float = 200.0
    blur: float = 0.7
    batch_blur: float = 0.35
    site_blur: float = 0.35
    column_gain: float = 0.15
    edge_cells: float = 0.75
    count_spread: float = 0.25
    shot_noise: float = 5.0
    read_noise: float = 30.0


@dataclass(frozen=True)
class ScreenDesign:
    """A screen; the defaults resemble BBBC021 (about 100 treatments in 10 weeks).

    Parameters
    ----------
    channels : tuple of str
        Names in :data:`~deepprofiler.simulate.draw.STAINS`.
    image_size : (int, int)
        H and W in pixels.
    pixel_size : float
        µm per pixel.
    levels : float
        Grey levels of brightness 1 (an untreated nucleus in DNA) at gain 1.
    batches, plates, sites : int
        Number of batches (weeks); replicate plates per batch; fields per well.
    plate_shape : (int, int)
        Rows and columns of a plate.
    controls : int
        DMSO wells on every plate.
    mechanisms : tuple of str
        Names in :data:`~deepprofiler.simulate.phenotype.MECHANISMS`.
    compounds : int
        Compounds of each mechanism.
    batches_per_compound : int
        Batches in which each compound is tested; every plate of such a batch has all its doses.
    doses : tuple of float
        Concentrations of every compound, µM.
    half_dose : float
        Concentration of half the full strength, µM: strength = dose / (dose + half dose).
    inactive, toxic : int
        Compounds without effect; compounds that kill most cells. Neither has a mechanism.
    survival : float
        Share of the cells that a toxic compound leaves.
    cells : float
        Expected cells with their centre in a field, in an inner well.
    cell_spread, compound_spread, well_spread : float
        Standard deviation of the logarithm of every parameter: between cells, between compounds
        of one mechanism, between wells.
    density_spread : float
        Standard deviation, between compounds, of the logarithm of the number of cells.
    nuisance : Nuisance
    crop_size : int
        Side of a crop in pixels, for the config.
    epochs, batch_size : int
        For the config.
    learning_rate : float
        Of Adam, for the config.

    Raises
    ------
    ConfigError
        The settings contradict each other.
    """

    channels: tuple[str, ...] = THREE_CHANNELS
    image_size: tuple[int, int] = (512, 512)
    pixel_size: float = 0.65
    levels: float = 6000.0
    batches: int = 10
    plates: int = 3
    sites: int = 4
    plate_shape: tuple[int, int] = (8, 12)
    controls: int = 6
    mechanisms: tuple[str, ...] = tuple(MECHANISMS)
    compounds: int = 4
    batches_per_compound: int = 1
    doses: tuple[float, ...] = (1.0, 3.0, 10.0)
    half_dose: float = 1.0
    inactive: int = 5
    toxic: int = 5
    survival: float = 0.15
    cells: float = 60.0
    cell_spread: float = 0.15
    compound_spread: float = 0.08
    well_spread: float = 0.08
    density_spread: float = 0.2
    nuisance: Nuisance = field(default_factory=Nuisance)
    crop_size: int = 96
    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 0.001

    def __post_init__(self) -> None:
        problems = []
        for name, valid in (("channels", STAINS), ("mechanisms", MECHANISMS)):
            unknown = [value for value in getattr(self, name) if value not in valid]
            if unknown:
                problems.append(
                    f"unknown {name} {', '.join(unknown)}; valid are {', '.join(valid)}"
                )
        if self.batches < 2 or self.compounds < 2:
            problems.append("NSCB needs at least 2 compounds per mechanism and 2 batches")
        if not 1 <= self.batches_per_compound <= self.batches:
            problems.append(f"batches_per_compound must be from 1 to {self.batches}")
        if self.controls < 4:
            problems.append(f"{self.controls} controls per plate; at least 4 are needed")
        if not 1 <= self.plate_shape[0] <= 26:
            problems.append(f"{self.plate_shape[0]} rows per plate; at most 26 (A to Z)")
        if not problems:
            rows, columns = self.plate_shape
            wells = self.controls + max(len(tested) for tested in schedule(self)) * len(self.doses)
            if wells > rows * columns:
                problems.append(f"{wells} wells do not fit on a plate of {rows} × {columns}")
        if problems:
            raise ConfigError("this screen cannot be simulated: " + "; ".join(problems))

    @classmethod
    def demo(cls) -> ScreenDesign:
        """Small screen for ``make demo``: 3 weeks × 2 plates, 5 mechanisms × 3 compounds × 2 doses.

        Each compound is tested in 2 of the 3 weeks; about 10,000 cells.
        """
        return cls(
            image_size=(320, 320),
            pixel_size=1.0,
            batches=3,
            plates=2,
            sites=2,
            plate_shape=(5, 6),
            controls=4,
            mechanisms=(
                "DNA damage",
                "Microtubule stabilizers",
                "Microtubule destabilizers",
                "Actin disruptors",
                "Kinase inhibitors",
            ),
            compounds=3,
            batches_per_compound=2,
            doses=(0.5, 1.0),
            inactive=1,
            toxic=1,
            survival=0.2,
            cells=35,
            compound_spread=0.15,
            nuisance=Nuisance(batch_blur=0.5, site_blur=0.45),
            crop_size=48,
            epochs=10,
        )

    @classmethod
    def tiny(cls) -> ScreenDesign:
        """Smallest screen on which features can be learned: 12 treatments, about 9,000 cells.

        Each compound is tested in 2 of the 3 weeks, at a dose that leaves untrained features
        well below perfect.
        """
        return cls(
            image_size=(256, 256),
            pixel_size=1.0,
            batches=3,
            plates=2,
            sites=4,
            plate_shape=(3, 4),
            controls=4,
            mechanisms=(
                "Microtubule stabilizers",
                "Microtubule destabilizers",
                "Actin disruptors",
                "Aurora kinase inhibitors",
            ),
            compounds=3,
            batches_per_compound=2,
            doses=(0.5,),
            inactive=0,
            toxic=0,
            cells=40,
            crop_size=48,
            epochs=10,
        )

    @classmethod
    def cell_painting(cls) -> ScreenDesign:
        """The default screen with the five stains of Cell Painting."""
        return cls(channels=FIVE_CHANNELS, crop_size=128)


def schedule(design: ScreenDesign) -> list[list[int]]:
    """Numbers of the compounds that each batch tests.

    Compounds of one mechanism have consecutive numbers and are tested in consecutive batches. So
    each mechanism is in as many batches as it has compounds, or in all of them.
    """
    tested: list[list[int]] = [[] for _ in range(design.batches)]
    total = len(design.mechanisms) * design.compounds + design.inactive + design.toxic
    for compound in range(total):
        for offset in range(design.batches_per_compound):
            tested[(compound + offset) % design.batches].append(compound)
    return tested
