"""What outputs are made from: what changes it, and what does not."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from deepprofiler.config.schema import Config
from deepprofiler.parameters import Decides, deciding, settings, tags
from deepprofiler.project.freshness import (
    FileState,
    Provenance,
    describe,
    digest_of,
    provenance,
    stored_provenance,
)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "images" / "a.tif"
    path.parent.mkdir()
    path.write_bytes(b"abcdefgh")
    return path


def test_every_key_says_what_it_decides() -> None:
    outputs = set(map(str, Decides))
    for path, field, _ in settings(Config()):
        assert tags(field), f"{path} does not say what it decides"
        assert set(tags(field)) <= outputs, path
        assert field.description, f"{path} has no text"


@pytest.mark.parametrize(
    ("output", "changed", "kept"),
    [
        (Decides.CROPS, {"crops": {"size": 64}}, {"crops": {"rescale": "max"}}),
        (Decides.FEATURES, {"crops": {"rescale": "max"}}, {"crops": {"cells_per_well": 5}}),
        (Decides.ILLUMINATION, {"prepare": {"down_scale": 2}}, {"crops": {"size": 64}}),
        (Decides.WEIGHTS, {"train": {"model": "vgg11"}}, {"train": {"epochs": 99}}),
        (Decides.TRAINING, {"train": {"generator": "mixup"}}, {"train": {"learning_rate": 1}}),
        (Decides.PROFILES, {"analyze": {"aggregate": "median"}}, {"analyze": {"baselines": False}}),
        (Decides.NORMALIZED, {"analyze": {"normalize": ["tvn"]}}, {"train": {"epochs": 99}}),
    ],
)
def test_settings_that_decide_an_output(output, changed, kept, tmp_path) -> None:
    before = provenance(Config(), output)
    after = provenance(Config.model_validate(changed), output)
    assert [difference.kind for difference in before.differences(after, tmp_path)] == ["setting"]
    same = provenance(Config.model_validate(kept), output)
    assert before.differences(same, tmp_path) == []
    assert before.digest == same.digest != after.digest


def test_values_take_the_place_of_keys() -> None:
    made_from = provenance(Config(), Decides.CROPS, values={"dataset.channels": ("DNA", "ER")})
    assert made_from.settings["dataset.channels"] == ["DNA", "ER"]
    assert set(deciding(Config(), Decides.CROPS)) == set(made_from.settings)


def test_it_survives_a_file(image: Path) -> None:
    state = FileState.of(image)
    assert state == (8, image.stat().st_mtime_ns, hashlib.sha256(b"abcdefgh").hexdigest())
    made_from = provenance(
        Config(), Decides.FEATURES, inputs={"weights": "1", "labels": None}, files={"a": state}
    )
    again = Provenance.from_json(made_from.to_json())
    assert again == made_from
    assert again.digest == made_from.digest
    assert again.differences(made_from, image.parent.parent / "nowhere") == []


@pytest.mark.parametrize("text", [None, "", "{", "{}", "[]", '{"output": "crops"}', "null"])
def test_other_texts_are_not_provenance(text) -> None:
    found = stored_provenance(text)
    assert found is None or found == Provenance("crops")


def test_files_are_compared_by_content(image: Path, tmp_path: Path) -> None:
    made_from = Provenance("features", files={"images/a.tif": FileState.of(image)})

    def differs() -> bool:
        return bool(made_from.differences(made_from, tmp_path))

    assert not differs()
    os.utime(image, ns=(1, 1))
    assert not differs(), "another time alone is not another image"
    image.write_bytes(b"abcdefgX")
    assert differs(), "the same size, another content"
    image.write_bytes(b"abcdefghi")
    assert differs()
    image.unlink()
    assert not differs(), "an image that is not on this machine is not another image"


def test_a_moved_project_is_current(image: Path, tmp_path: Path) -> None:
    made_from = Provenance("features", files={"images/a.tif": FileState.of(image)})
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(image.parent, elsewhere / "images", copy_function=shutil.copyfile)
    assert made_from.differences(made_from, elsewhere) == []


def test_differences_are_said_in_one_line(image: Path, tmp_path: Path) -> None:
    state = FileState.of(image)
    before = Provenance(
        "crops", {"crops.size": 64, "a": 1}, {"labels": "1"}, {"images/a.tif": state}
    )
    now = Provenance("crops", {"crops.size": 128, "b": [2]}, {"labels": None})
    image.write_bytes(b"other")
    differences = before.differences(now, tmp_path)
    # `a` decides nothing any more.
    assert [(item.kind, item.name, item.before, item.now) for item in differences[:3]] == [
        ("setting", "b", None, [2]),
        ("setting", "crops.size", 64, 128),
        ("input", "labels", "1", None),
    ]
    text = describe(differences)
    assert "crops.size was 64 and is 128" in text
    assert "1 image file changed" in text
    assert Provenance("crops").differences(Provenance("features"), tmp_path)[0].kind == "output"


def test_digests_ignore_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1}) != digest_of({"a": 2, "b": 1})
