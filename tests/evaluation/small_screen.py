"""A small screen with all roles, for tests of screens, evaluations and scores."""

from __future__ import annotations

import numpy as np
import pandas as pd

from deepprofiler.columns import COUNT, FLAG
from deepprofiler.parameters import Choice
from deepprofiler.profiling import Profiles

TREATMENT, COMPOUND, MECHANISM = "Metadata_Treatment", "Metadata_Compound", "Metadata_Mechanism"
PLATE, BATCH, CONTROL = "Metadata_Plate", "Metadata_Batch", "Metadata_Control"
NAMES = {"treatment": TREATMENT, "compound": COMPOUND, "mechanism": MECHANISM}
ROLES = NAMES | {"batch": BATCH, "control": CONTROL}
PLATES = ("P1", "P2", "P3", "P4")


def wells_of(*, strength: float = 1.0, seed: int = 0) -> Profiles:
    """Wells on four plates in two batches: 24 treatments of 12 compounds and 4 mechanisms, DMSO.

    Features are the sum of mechanism, compound, batch and noise; each plate's last well is small.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for number, plate in enumerate(PLATES):
        for well in range(28):
            compound = f"c{well // 2}" if well < 24 else "DMSO"
            rows.append(
                {
                    PLATE: plate,
                    "Metadata_Well": f"A{well + 1:02}",
                    BATCH: f"B{number // 2}",
                    COMPOUND: compound,
                    TREATMENT: f"{compound} dose {well % 2}" if well < 24 else "DMSO",
                    MECHANISM: f"m{well // 6}" if well < 24 else "",
                    CONTROL: "" if well < 24 else "negative",
                    COUNT: 50 + len(rows) % 7,
                    FLAG: well == 27,
                }
            )
    mechanism = np.tile(np.append(np.repeat(np.arange(4), 6), [4] * 4), 4)
    compounds = np.tile(np.append(np.repeat(np.arange(12), 2), [12] * 4), 4)
    features = strength * rng.normal(size=(5, 10))[mechanism]
    features += 0.8 * rng.normal(size=(13, 10))[compounds]
    features += 0.7 * rng.normal(size=(2, 10))[np.repeat([0, 0, 1, 1], 28)]
    features += rng.normal(size=features.shape)
    return Profiles(pd.DataFrame(rows), features, [f"f{i}" for i in range(10)])


def chosen(*evaluations: object) -> list[Choice]:
    """Evaluations as a config names them."""
    return [Choice.model_validate(evaluation) for evaluation in evaluations]
