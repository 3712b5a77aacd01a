"""Chains that are saved, read, and applied to plates that were not in the fit."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deepprofiler.errors import DataError
from deepprofiler.profiling import Chain, Profiles
from deepprofiler.profiling.chain import make_chain

PLATE, BATCH, WELL = "Metadata_Plate", "Metadata_Batch", "Metadata_Well"
COUNT = "Metadata_Cell_Count"


def screen(seed: int = 0, plates: tuple[str, ...] = ("P1", "P2")) -> tuple[Profiles, np.ndarray]:
    """48 wells a plate, the first 20 of them controls, and one feature without a spread."""
    rng = np.random.default_rng(seed)
    n = 48 * len(plates)
    wells = [f"{row}{column}" for row in "ABCDEF" for column in range(1, 9)]
    metadata = pd.DataFrame(
        {
            PLATE: np.repeat(plates, 48),
            BATCH: "b1",
            WELL: wells * len(plates),
            COUNT: rng.integers(50, 200, size=n),
        }
    )
    features = rng.normal(size=(n, 5)) @ rng.normal(size=(5, 5)) + 3
    features[:, 4] = 1
    controls = np.tile(np.arange(48) < 20, len(plates))
    return Profiles(metadata, features, ["a", "b", "c", "d", "e"]), controls


def chain_of(*steps: tuple[str, dict]) -> Chain:
    return make_chain(steps, plate=PLATE, batch=BATCH, well=WELL, count=COUNT)


@pytest.mark.parametrize(
    "steps",
    [
        [("standardize", {"per": "screen"}), ("tvn", {})],
        [("robust", {"per": "screen", "reference": "controls"}), ("sphering", {"method": "PCA"})],
        [("standardize", {"per": "screen"}), ("tvn-authors", {})],
        [("cell-count", {}), ("standardize", {"per": "screen"}), ("tvn-efaar", {})],
        [],
    ],
)
def test_a_chain_that_was_read_does_the_same_to_new_plates(
    steps: list[tuple[str, dict]], tmp_path: Path
) -> None:
    profiles, controls = screen()
    chain = chain_of(*steps).fit(profiles, controls=controls)
    chain.save(tmp_path / "chain.npz")
    read = Chain.load(tmp_path / "chain.npz")
    new, _ = screen(1, ("P7", "P8", "P9"))
    assert read.covers(new).all()
    np.testing.assert_array_equal(read.transform(new).features, chain.transform(new).features)
    assert read.transform(new).names == chain.transform(new).names
    assert (read.notes_, read.left_out_) == (chain.notes_, chain.left_out_)
    for ours, theirs in zip(chain.steps, read.steps, strict=True):
        assert type(ours) is type(theirs)
        assert (ours.params(), ours.reference_, ours.n_) == (
            theirs.params(),
            theirs.reference_,
            theirs.n_,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["chain.npz"]


def test_reference_and_its_n_are_named(tmp_path: Path) -> None:
    profiles, controls = screen()
    chain = chain_of(("standardize", {"per": "plate"}), ("tvn", {})).fit(
        profiles, controls=controls
    )
    chain.save(tmp_path / "chain.npz")
    standardize, tvn = Chain.load(tmp_path / "chain.npz").steps
    assert (standardize.reference_, standardize.n_) == (
        "negative controls of each plate",
        {"P1": 20, "P2": 20},
    )
    assert (tvn.reference_, tvn.n_) == ("negative control wells", 40)
    assert standardize.left_out_ == {"e": "no spread (all 1) in plate P1"}
    new, _ = screen(1, ("P9",))
    with pytest.raises(DataError, match="not fitted for plate 'P9', only for P1, P2"):
        standardize.transform(new)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("rank-normal", "rank-normal corrects the profiles of one fit together and cannot be"),
        ("harmony", "harmony corrects the profiles of one fit together and cannot be applied"),
        ("well-position", "well-position learns the effects of each plate .* cannot be applied"),
    ],
)
def test_some_steps_refuse_new_plates(step: str, message: str, tmp_path: Path) -> None:
    params = {}
    if step == "harmony":
        pytest.importorskip("harmonypy", reason="needs the extra harmony")
        params = {"batch": PLATE}
    profiles, controls = screen()
    chain = chain_of((step, params)).fit(profiles, controls=controls)
    chain.save(tmp_path / "chain.npz")
    read = Chain.load(tmp_path / "chain.npz")
    new, _ = screen(1, ("P9",))
    assert not read.covers(new).any()
    for one in (chain, read):
        with pytest.raises(DataError, match=message):
            one.transform(new)
    if step == "well-position":
        np.testing.assert_array_equal(
            read.transform(profiles).features, chain.transform(profiles).features
        )


def test_nothing_in_the_file_runs_code(tmp_path: Path) -> None:
    profiles, controls = screen()
    path = tmp_path / "chain.npz"
    chain_of(("standardize", {}), ("tvn", {})).fit(profiles, controls=controls).save(path)
    with np.load(path, allow_pickle=False) as file:
        kinds = {file[name].dtype.kind for name in file.files}
    assert kinds <= {"U", "f", "i"}


def test_files_that_hold_no_chain(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        Chain.load(tmp_path / "none.npz")
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(b"PK\x03\x04 nothing")
    other = tmp_path / "other.npz"
    np.savez(other, x=np.ones(3))
    empty = tmp_path / "empty.npz"
    zipfile.ZipFile(empty, "w").close()
    nothing = tmp_path / "nothing.npz"
    nothing.touch()
    for path in (damaged, other, empty, nothing):
        with pytest.raises(DataError, match="does not hold a normalization"):
            Chain.load(path)
    with pytest.raises(DataError, match="tvn is not fitted"):
        chain_of(("tvn", {})).save(tmp_path / "unfitted.npz")
    assert not (tmp_path / "unfitted.npz").exists()


def test_a_chain_keeps_what_it_was_fitted_on(tmp_path: Path) -> None:
    profiles, controls = screen()
    chain = chain_of(("standardize", {})).fit(profiles, controls=controls)
    path = tmp_path / "chain.npz"
    chain.save(path)
    assert Chain.load(path).made_from == ""
    chain.made_from = '{"index": "a"}'
    chain.save(path)
    assert Chain.load(path).made_from == '{"index": "a"}'
