"""What the log and the report say of a fit, in words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from deepprofiler.commands.analyze.descriptions import (
    describe_chain,
    describe_fit,
    describe_left_out,
    left_out_table,
)
from deepprofiler.profiling import (
    TVN,
    AuthorsTVN,
    CellCount,
    Chain,
    EfaarTVN,
    LeftOut,
    Normalizer,
    Profiles,
    RankNormal,
    Robust,
    Sphering,
    Standardize,
    WellPosition,
)

PLATE, WELL, COUNT = "Metadata_Plate", "Metadata_Well", "Metadata_Cell_Count"


def screen(controls: int = 16) -> tuple[Profiles, np.ndarray]:
    """Two plates of 24 wells with four features; of each, the first wells are controls."""
    rng = np.random.default_rng(0)
    metadata = pd.DataFrame(
        {
            PLATE: np.repeat(["P0", "P1"], 24),
            WELL: [f"{row}{column}" for row in "ABCD" for column in range(1, 7)] * 2,
            COUNT: np.arange(50, 98),
        }
    )
    profiles = Profiles(metadata, rng.normal(size=(48, 4)), ["f1", "f2", "f3", "f4"])
    return profiles, np.tile(np.arange(24) < controls, 2)


def fitted(step: Normalizer, controls: int = 16) -> list[str]:
    profiles, mask = screen(controls)
    return describe_fit(step.fit(profiles, controls=mask))


def test_the_reference_of_a_standardization() -> None:
    assert fitted(Standardize(plate=PLATE))[0] == (
        "standardize: fitted on the negative controls of each of 2 plates, at least 16 wells"
    )
    assert fitted(Standardize(plate=PLATE, per="plate"), 6)[0] == (
        "standardize: fitted on the negative controls of each of 2 plates, at least 6 wells; fewer "
        "than 16 are too few"
    )
    assert fitted(Standardize(plate=PLATE), 6)[0] == (
        "standardize: fitted on all 48 wells of the screen, because plate P0 has 6 negative "
        "controls and every plate needs 16"
    )
    assert fitted(Robust(per="screen", reference="controls"))[0] == (
        "robust: fitted on the 32 negative controls of the screen"
    )


def test_features_left_out_missing_and_largest_values() -> None:
    profiles, mask = screen()
    features = profiles.features.copy()
    features[:, 0] = 7
    features[1, 1] = np.nan
    features[20, 2] = 1e6
    step = Standardize(plate=PLATE).fit(
        profiles.with_features(features, profiles.names), controls=mask
    )
    _, left_out, missing, largest = describe_fit(step)
    assert left_out == (
        "standardize: 1 of 4 features left out as undefined, such as f1: no spread (all 7) in "
        "plate P0"
    )
    assert missing == "standardize: 1 missing values stay missing"
    assert largest.startswith("standardize: largest absolute value ")
    assert "(f3; Plate P0, Well D3, Cell_Count 70)" in largest
    assert largest.endswith("beyond 500, one feature dominates every similarity")
    table = left_out_table(step.left_out_)
    assert table.to_dict("records") == [
        {"feature": "f1", "reason": "no spread (all 7) in plate P0", "code": "no-spread"}
    ]
    assert fitted(Standardize(per="screen"))[-1].startswith("standardize: largest absolute value ")


@pytest.mark.parametrize(
    ("step", "sentences"),
    [
        (TVN(shrinkage=0), ["tvn: fitted on 32 control wells, 4 features, rank 4, shrinkage 0"]),
        (
            TVN(batch=PLATE, shrinkage=1.0),
            [
                "tvn: fitted on 32 control wells, 4 features, rank 4, shrinkage 0.5",
                "tvn: 2 batches aligned, each on at least 16 control wells (fewest in plate P0, "
                "rank 4 of 4); shrinkage 0.5 to 0.5",
            ],
        ),
        (
            AuthorsTVN(batch=PLATE),
            [
                "tvn-authors: fitted on 32 control wells, 4 features, rank 4; 1 added to every "
                "eigenvalue",
                "tvn-authors: 2 batches aligned",
            ],
        ),
        (
            EfaarTVN(batch=PLATE),
            [
                "tvn-efaar: fitted on 32 control wells, 4 features, rank 4; 2 batches aligned, "
                "0.5 added to every eigenvalue"
            ],
        ),
        (
            Sphering(method="PCA", shrinkage=1.0),
            ["sphering: PCA fitted on 32 control wells, 4 features, rank 4, shrinkage 0.5"],
        ),
        (RankNormal(), ["rank-normal: fitted on all 48 wells"]),
        (CellCount(count=COUNT), ["cell-count: fitted on 32 control wells of 50 to 89 cells"]),
    ],
)
def test_what_a_fit_was_made_on(step: Normalizer, sentences: list[str]) -> None:
    assert fitted(step) == sentences


def test_positions_of_wells() -> None:
    (sentence,) = fitted(WellPosition(plate=PLATE, well=WELL))
    assert sentence.startswith(
        "well-position: rows and columns of 2 plates, at least 24 wells each"
    )


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (
            LeftOut("no-median-deviation", PLATE, "P1", {"equal": 20, "n": 24, "value": 0}),
            "no median deviation (20 of 24 are 0) in plate P1",
        ),
        (LeftOut("infinite"), "infinite values in the screen"),
        (
            LeftOut("too-large-to-square", values={"largest": 1e160}),
            "values too large to square (up to 1e+160) in the screen",
        ),
        (LeftOut("too-few-values", values={"n": 1}), "only 1 known values in the screen"),
        (LeftOut("one-value", values={"n": 4}), "no two different values among 4 known"),
        (LeftOut("undefined", values={"undefined": 1, "n": 2}), "undefined in 1 of 2 profiles"),
        (LeftOut("text", values={"reason": "as it was written"}), "as it was written"),
    ],
)
def test_why_a_feature_is_left_out(reason: LeftOut, words: str) -> None:
    assert describe_left_out(reason) == words


def test_sentences_of_a_chain_are_those_of_its_steps() -> None:
    profiles, mask = screen()
    chain = Chain([Standardize(per="screen"), TVN()]).fit(profiles, controls=mask)
    assert describe_chain(chain) == [*describe_fit(chain.steps[0]), *describe_fit(chain.steps[1])]
