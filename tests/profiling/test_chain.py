"""Chains that are saved, read, and applied to plates that were not in the fit."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deepprofiler.commands.analyze.descriptions import describe_fit
from deepprofiler.errors import DataError, PluginError
from deepprofiler.profiling import Chain, Profiles
from deepprofiler.profiling.chain import make_chain
from deepprofiler.profiling.normalizer import FitSummary, LeftOut
from deepprofiler.registry import NORMALIZERS, discover

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
    assert read.left_out_ == chain.left_out_
    for ours, theirs in zip(chain.steps, read.steps, strict=True):
        assert type(ours) is type(theirs)
        assert (ours.params(), ours.fitted_) == (theirs.params(), theirs.fitted_)
    assert [path.name for path in tmp_path.iterdir()] == ["chain.npz"]


def test_reference_and_its_n_are_named(tmp_path: Path) -> None:
    profiles, controls = screen()
    chain = chain_of(("standardize", {"per": "plate"}), ("tvn", {})).fit(
        profiles, controls=controls
    )
    chain.save(tmp_path / "chain.npz")
    standardize, tvn = Chain.load(tmp_path / "chain.npz").steps
    fitted = standardize.fitted_
    assert (fitted.reference, fitted.group) == ("controls", PLATE)
    assert fitted.n == {"P1": 20, "P2": 20}
    assert (tvn.fitted_.reference, tvn.fitted_.unit, tvn.fitted_.n) == ("controls", "wells", 40)
    reason = LeftOut("no-spread", PLATE, "P1", {"equal": 20, "n": 20, "value": 1})
    assert standardize.left_out_ == {"e": reason}
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


def as_version_1(path: Path) -> None:
    """Write a chain again as version 1 kept it: sentences for references and reasons."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    contents = json.loads(str(arrays.pop("chain")))
    contents["version"] = 1
    for step, reference in zip(
        contents["steps"],
        ("negative controls of each plate", "negative control wells"),
        strict=True,
    ):
        step["n"] = step.pop("fitted")["n"]
        step["reference"], step["notes"] = reference, [f"{step['name']}: a sentence"]
        step["left_out"] = dict.fromkeys(step["left_out"], "no spread (all 1) in plate P1")
    np.savez(path, chain=np.array(json.dumps(contents)), **arrays)


def test_files_of_version_1_are_read(tmp_path: Path) -> None:
    profiles, controls = screen()
    chain = chain_of(("standardize", {"per": "plate"}), ("tvn", {}))
    chain.fit(profiles, controls=controls).save(tmp_path / "chain.npz")
    as_version_1(tmp_path / "chain.npz")
    read = Chain.load(tmp_path / "chain.npz")
    np.testing.assert_array_equal(
        read.transform(profiles).features, chain.transform(profiles).features
    )
    standardize, tvn = (step.fitted_ for step in read.steps)
    assert standardize == FitSummary(reference="controls", n={"P1": 20, "P2": 20}, d=5, group=PLATE)
    assert tvn == FitSummary(reference="controls", n=40, d=4)
    assert read.left_out_ == {
        "e": LeftOut("text", values={"reason": "no spread (all 1) in plate P1"})
    }


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chain.npz"
    contents = {"format": "deepprofiler normalization", "version": 3, "steps": []}
    np.savez(path, chain=np.array(json.dumps(contents)))
    with pytest.raises(DataError, match="normalization 3, not deepprofiler normalization 1 to 2"):
        Chain.load(path)


OWN = """
import numpy as np
from deepprofiler.profiling import FitSummary, Normalizer
from deepprofiler.registry import NORMALIZERS


@NORMALIZERS.register("own-center")
class OwnCenter(Normalizer):
    def __init__(self, *, batch: str, factor: float = 1.0):
        self.batch = batch
        self.factor = factor

    def fit(self, profiles, *, controls=None, cells=None):
        self.names_in_ = self.names_ = list(profiles.names)
        self.left_out_ = {}
        self.mean_ = profiles.features[controls].mean(axis=0)
        self.fitted_ = FitSummary(
            reference="controls", n=int(controls.sum()), d=len(profiles.names)
        )
        return self

    def transform(self, profiles):
        shifted = self.factor * (profiles.features - self.mean_)
        return profiles.with_features(shifted, self.names_)

    def covers(self, profiles):
        return np.ones(len(profiles), bool)

    def state(self):
        return {}, {"mean": self.mean_}

    def restore(self, facts, arrays):
        self.mean_ = arrays["mean"]
"""


def test_a_projects_own_normalizer_is_fitted_saved_and_read(tmp_path: Path) -> None:
    folder = tmp_path / "plugins" / "normalizers"
    folder.mkdir(parents=True)
    (folder / "own.py").write_text(OWN)
    try:
        assert discover(tmp_path / "plugins", (NORMALIZERS,)) == [folder / "own.py"]
        profiles, controls = screen()
        chain = chain_of(("own-center", {"factor": 2.0}), ("standardize", {}))
        chain.fit(profiles, controls=controls).save(tmp_path / "chain.npz")
        own, _ = Chain.load(tmp_path / "chain.npz").steps
        assert (own.name, own.params()) == ("own-center", {"batch": BATCH, "factor": 2.0})
        assert own.fitted_ == FitSummary(reference="controls", n=40, d=5)
        expected = 2 * (profiles.features - profiles.features[controls].mean(axis=0))
        np.testing.assert_array_equal(own.transform(profiles).features, expected)
        assert describe_fit(own) == ["own-center: fitted on 40 control wells, 5 features"]
    finally:
        discover(None, (NORMALIZERS,))
    with pytest.raises(PluginError, match="there is no normalizer `own-center`"):
        Chain.load(tmp_path / "chain.npz")


def test_every_normalizer_has_the_name_that_it_is_registered_under() -> None:
    names = NORMALIZERS.names()
    assert [NORMALIZERS.get(name).name for name in names] == names
    assert {
        "standardize",
        "robust",
        "rank-normal",
        "sphering",
        "tvn",
        "tvn-authors",
        "tvn-efaar",
        "harmony",
        "well-position",
        "cell-count",
    } <= set(names)
