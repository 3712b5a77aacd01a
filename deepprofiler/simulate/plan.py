"""Treatments, batches and wells of a screen, drawn from its design and a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from zlib import crc32

import numpy as np

from deepprofiler.simulate.design import ScreenDesign, schedule
from deepprofiler.simulate.phenotype import MECHANISMS, NAMES, Phenotype

Fate = Literal["control", "active", "inactive", "toxic"]


@dataclass(frozen=True)
class Treatment:
    """A compound at a concentration, and its true effect.

    Parameters
    ----------
    name, compound, mechanism : str
        The mechanism is blank for treatments without one.
    dose : float
        µM; 0 for DMSO.
    batches : tuple of int
        Numbers of the batches in which it is tested, from 0.
    fate : {"control", "active", "inactive", "toxic"}
    strength : float
        Share of the mechanism's full effect, 0 to 1.
    cells : float
        Number of cells relative to DMSO.
    phenotype : Phenotype
        Medians of its cells.
    """

    name: str
    compound: str
    mechanism: str
    dose: float
    batches: tuple[int, ...]
    fate: Fate
    strength: float
    cells: float
    phenotype: Phenotype


@dataclass(frozen=True)
class Batch:
    """One week: blur (µm), and gain (factor) and background (grey levels) of each channel."""

    name: str
    blur: float
    gain: tuple[float, ...]
    background: tuple[float, ...]


@dataclass(frozen=True)
class Well:
    """One well: its position, its treatment, and the effects of its position.

    Parameters
    ----------
    plate, well : str
    batch, replicate : int
        From 0; replicates are counted within a batch.
    treatment : Treatment
    gain : float
        Factor of all stains that depends on the plate's column.
    cells : float
        Expected cells in each field.
    phenotype : Phenotype
        Medians of this well's cells.
    """

    plate: str
    well: str
    batch: int
    replicate: int
    treatment: Treatment
    gain: float
    cells: float
    phenotype: Phenotype


@dataclass(frozen=True)
class Site:
    """One field of a well."""

    well: Well
    name: str


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before the first cell is drawn."""

    treatments: tuple[Treatment, ...]
    batches: tuple[Batch, ...]
    wells: tuple[Well, ...]


def generator(seed: int, *names: str) -> np.random.Generator:
    """Random numbers that depend only on the seed and on the names of what they are for."""
    return np.random.default_rng([seed, *(crc32(name.encode()) for name in names)])


def plan(design: ScreenDesign, seed: int) -> Plan:
    """Decide treatments, batches and plate layouts.

    All plates of a batch share one layout, as in real screens, so that position and treatment are
    confounded within it.

    Parameters
    ----------
    design : ScreenDesign
    seed : int

    Returns
    -------
    Plan
    """
    treatments = _treatments(design, generator(seed, "treatments"))
    nuisance = design.nuisance
    batches, wells = [], []
    for number in range(design.batches):
        rng = generator(seed, "batch", str(number))
        C = len(design.channels)
        gain = np.exp(rng.normal(0, nuisance.batch_gain, C))
        background = nuisance.background * np.exp(rng.normal(0, nuisance.batch_background, C))
        blur = nuisance.blur * np.exp(rng.normal(0, nuisance.batch_blur))
        batches.append(Batch(f"Week{number + 1}", float(blur), tuple(gain), tuple(background)))
        layout = [treatments[0]] * design.controls
        layout += [treatment for treatment in treatments[1:] if number in treatment.batches]
        places = rng.permutation(design.plate_shape[0] * design.plate_shape[1])[: len(layout)]
        for replicate in range(design.plates):
            plate = f"Week{number + 1}-{replicate + 1}"
            pairs = sorted(zip(places.tolist(), layout, strict=True), key=lambda pair: pair[0])
            wells += [_well(design, seed, plate, number, replicate, *pair) for pair in pairs]
    return Plan(treatments, tuple(batches), tuple(wells))


def _treatments(design: ScreenDesign, rng: np.random.Generator) -> tuple[Treatment, ...]:
    """DMSO first, then every compound at every dose."""
    base = Phenotype()
    treatments = [
        Treatment("DMSO", "DMSO", "", 0.0, tuple(range(design.batches)), "control", 0, 1, base)
    ]
    tested = schedule(design)
    mechanisms = [name for name in design.mechanisms for _ in range(design.compounds)]
    fates: list[Fate] = ["active"] * len(mechanisms)
    fates += ["inactive"] * design.inactive
    fates += ["toxic"] * design.toxic
    mechanisms += [""] * (design.inactive + design.toxic)
    for number, (mechanism, fate) in enumerate(zip(mechanisms, fates, strict=True)):
        compound = f"C{number + 1:02d}"
        offset = dict(
            zip(NAMES, np.exp(rng.normal(0, design.compound_spread, len(NAMES))), strict=True)
        )
        half = design.half_dose * np.exp(rng.normal(0, 0.3))
        density = float(np.exp(rng.normal(0, design.density_spread)))
        weeks = tuple(batch for batch, compounds in enumerate(tested) if number in compounds)
        for dose in design.doses:
            strength = dose / (dose + half) if fate != "inactive" else 0.0
            phenotype = base.times(offset, strength)
            if mechanism:
                phenotype = phenotype.times(MECHANISMS[mechanism], strength)
            cells = {"active": density, "inactive": 1.0, "toxic": design.survival}[fate]
            treatments.append(
                Treatment(
                    f"{compound}_{dose:g}",
                    compound,
                    mechanism,
                    dose,
                    weeks,
                    fate,
                    float(strength),
                    cells,
                    phenotype,
                )
            )
    return tuple(treatments)


def _well(
    design: ScreenDesign,
    seed: int,
    plate: str,
    batch: int,
    replicate: int,
    place: int,
    treatment: Treatment,
) -> Well:
    """Make one well; ``place`` counts along the rows of the plate."""
    rows, columns = design.plate_shape
    row, column = divmod(place, columns)
    name = f"{chr(ord('A') + row)}{column + 1:02d}"
    rng = generator(seed, "well", plate, name)
    nuisance = design.nuisance
    edge = row in (0, rows - 1) or column in (0, columns - 1)
    cells = design.cells * treatment.cells * np.exp(rng.normal(0, nuisance.count_spread))
    factors = np.exp(rng.normal(0, design.well_spread, len(NAMES)))
    return Well(
        plate,
        name,
        batch,
        replicate,
        treatment,
        gain=1 + nuisance.column_gain * column / max(columns - 1, 1),
        cells=float(cells * (nuisance.edge_cells if edge else 1)),
        phenotype=treatment.phenotype.times(dict(zip(NAMES, factors, strict=True))),
    )
