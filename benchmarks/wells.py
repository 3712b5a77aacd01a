"""Memory of a whole screen as profiles: stream wells, normalize them, and average treatments."""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator

import numpy as np

from deepprofiler.profiling import TVN, CellMoments, Standardize, WellProfiles, group_means

WELLS_OF_A_PLATE, CONTROLS_OF_A_PLATE, CELLS = 384, 16, 20
TREATMENTS, PLATES_OF_A_BATCH = 5000, 100
PLATE, BATCH, TREATMENT = "Metadata_Plate", "Metadata_Batch", "Metadata_Treatment"
COUNT = "Metadata_Cell_Count"


def screen(wells: int, size: int) -> Iterator[tuple[dict[str, str], np.ndarray]]:
    """Give a well's metadata and its cells, (20, size) float32, one well after the other."""
    rng = np.random.default_rng(0)
    for number in range(wells):
        plate, position = divmod(number, WELLS_OF_A_PLATE)
        control = position < CONTROLS_OF_A_PLATE
        treatment = "DMSO" if control else f"T{number % TREATMENTS}"
        metadata = {
            PLATE: f"P{plate}",
            "Metadata_Well": f"W{position}",
            BATCH: f"B{plate // PLATES_OF_A_BATCH}",
            TREATMENT: treatment,
        }
        yield metadata, rng.standard_normal((CELLS, size), np.float32)


def say(what: str, start: float) -> None:
    """Print the time since the start and the most memory so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{what}: {time.perf_counter() - start:.0f} s, peak memory {peak:.1f} GiB", flush=True)


def main() -> None:
    """Stream, normalize and average a made-up screen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wells", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=256)
    options = parser.parse_args()
    start = time.perf_counter()
    names = [f"conv4a_{number}" for number in range(options.features)]
    profiles, controls = WellProfiles(names, COUNT), CellMoments(names)
    for metadata, cells in screen(options.wells, options.features):
        profiles.add(metadata, cells)
        if metadata[TREATMENT] == "DMSO":
            controls.add({column: metadata[column] for column in (PLATE, BATCH)}, cells)
    wells, _ = profiles.finish()
    del profiles
    size = wells.features.nbytes / 2**30
    say(f"{len(wells)} wells of {len(controls)} plates gathered ({size:.1f} GiB)", start)
    negative = wells.values(TREATMENT) == "DMSO"
    standardize = Standardize(plate=PLATE).fit(wells, controls=negative)
    wells, controls = standardize.transform(wells), standardize.transform_moments(controls)
    reference = "plate" if standardize.fitted_.group else "screen"
    say(f"standardized by {reference} on {standardize.fitted_.reference}", start)
    tvn = TVN(batch=BATCH).fit(wells, controls=negative, cells=controls)
    wells = tvn.transform(wells)
    say("TVN", start)
    treatments = group_means(wells, [TREATMENT], count=COUNT, members="Metadata_Well_Count")
    say(f"{len(treatments)} treatments", start)


if __name__ == "__main__":
    main()
