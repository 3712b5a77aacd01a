"""What users run into when they train, through the commands."""

from __future__ import annotations

import csv
import json
import math
import shutil
import weakref

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from base_plugin import use_small_network
from base_project import CHANNELS, BaseProject
from command import Answer, command
from scipy.stats import kstest

from deepprofiler.columns import CELL, PLATE, SITE, WELL
from deepprofiler.commands import profile as profile_stage
from deepprofiler.commands.setup import setup
from deepprofiler.commands.train import describe_epoch
from deepprofiler.learning import checkpoint
from deepprofiler.learning.cell_store import CellStore
from deepprofiler.learning.metrics import Classification, EpochMetrics, ValidationMetrics
from deepprofiler.project import Project
from deepprofiler.project.splits import _draws, divide_cells


@pytest.fixture
def base(tmp_path) -> BaseProject:
    return BaseProject(tmp_path / "project")


def originals_config() -> dict:
    """A config as the original's example, with old names of keys and some left out."""
    return {
        "dataset": {
            "metadata": {"label_field": "Treatment", "control_value": "DMSO"},
            "images": {
                "channels": list(CHANNELS),
                "file_format": "tif",
                "bits": 16,
                "width": 256,
                "height": 256,
            },
            "locations": {"mode": "single_cells", "box_size": 64, "mask_objects": False},
        },
        "prepare": {
            "illumination_correction": {"down_scale_factor": 4, "median_filter_size": 24},
            "compression": {"implement": False, "scaling_factor": 1.0},
        },
        "train": {
            "partition": {
                "targets": ["Treatment"],
                "split_field": "Replicate",
                "training_values": ["A"],
                "validation_values": ["B"],
            },
            "model": {
                "name": "resnet",
                "crop_generator": "crop_generator",
                "epochs": 1,
                "steps": 2,
                "params": {"learning_rate": 0.001, "batch_size": 8, "conv_blocks": 18},
            },
            "sampling": {"factor": 1, "queue_size": 100, "workers": 1},
        },
        "profile": {"feature_layer": "conv3a", "checkpoint": "last"},
    }


def use(base: BaseProject, config: dict) -> None:
    folder = base.root / "inputs" / "config"
    for path in folder.iterdir():
        path.unlink()
    (folder / "config.json").write_text(json.dumps(config))


def test_flat_crops_are_counted_and_harmless(base):
    base.config["train"]["steps"] = 10
    use_small_network(base).write()
    for name in CHANNELS:
        tifffile.imwrite(base.image("P1", "A02", "1", name), np.zeros((256, 256), np.uint16))
    tifffile.imwrite(base.image("P2", "B03", "2", "ER"), np.full((256, 256), 7, np.uint16))
    answer = command(base.root, "train")
    assert answer.code == 0, answer.text
    history = pd.read_csv(base.root / "outputs/results/logs/history.csv")
    assert np.isfinite(history["loss"]).all()
    # 10 of the 72 to 80 training cells are flat, and 80 are drawn.
    assert 0 < history["flat_crops"].sum() < 40
    assert "crops with a flat channel" in answer.text


def test_the_originals_config_with_old_names_trains(base):
    base.write()
    use(base, originals_config())
    answer = command(base.root, "train")
    assert answer.code == 0, answer.text
    for key in ("train.sampling.queue_size", "train.partition.training_values"):
        assert sum(f"`{key}`" in line for line in answer.text.splitlines()) == 1
    history = pd.read_csv(base.root / "outputs/results/logs/history.csv")
    assert math.isfinite(history["val_macro_accuracy"].iloc[-1])
    answer = command(base.root, "profile")
    assert answer.code == 0, answer.text


def test_every_problem_in_one_message(base):
    base.write()
    config = originals_config()
    config["trian"] = {"epochs": 3}
    config["train"]["model"]["epochs"] = "many"
    use(base, config)
    answer = command(base.root, "train")
    assert answer.code == 2
    assert "trian: unknown key; nearest is `train`" in answer.text
    assert "train.epochs" in answer.text
    assert "2 problems" in answer.text


def test_the_config_that_setup_writes_works(base):
    base.write()
    for path in (base.root / "inputs" / "config").iterdir():
        path.unlink()
    setup(Project(base.root))
    answer = command(base.root, "check")
    assert answer.code == 0, answer.text


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> BaseProject:
    """Two plates, one site a well, uncorrected, with a network that takes a second."""
    base = BaseProject(tmp_path_factory.mktemp("small") / "project", sites=("1",))
    base.config["prepare"] = {"illumination": False}
    return use_small_network(base).write()


@pytest.fixture
def small(template, tmp_path) -> BaseProject:
    """A copy of it that a test may change."""
    base = BaseProject(tmp_path / "project", sites=("1",))
    shutil.copytree(template.root, base.root)
    base.config["prepare"] = {"illumination": False}
    return use_small_network(base)


def run(base: BaseProject, *words: str) -> Answer:
    answer = command(base.root, "--cores", "1", *words)
    assert "Traceback" not in answer.text
    return answer


def table(base: BaseProject, plate: str = "P1") -> pd.DataFrame:
    return CellStore([base.root / f"outputs/single-cells/{plate}.h5"]).table


def failures(base: BaseProject, name: str) -> list[tuple[str, str, str]]:
    with (base.root / "outputs" / name).open() as file:
        return [(row["plate"], row["well"], row["cell"]) for row in csv.DictReader(file)]


def test_the_log_line_of_an_epoch():
    steps = {"learning_rate": 0.01, "flat_crops": 8, "cells_per_second": 131.4, "waiting": 0.012}
    metrics = EpochMetrics(
        7,
        1.3208,
        0.5174,
        ValidationMetrics(2.348, Classification(0.285, 0.273, 0.25, 0.24, 5, 0.9)),
        **steps,
    )
    assert describe_epoch(metrics, 10) == (
        "epoch 7 of 10: loss 1.321, accuracy 0.517; validation loss 2.348, accuracy 0.285, "
        "top 5 accuracy 0.900, macro accuracy 0.273, macro precision 0.250, macro F1 0.240; "
        "8 crops with a flat channel; 131 cells/s, 1% waiting for data"
    )
    # A network that reconstructs its input, without validation cells.
    assert describe_epoch(EpochMetrics(1, 0.25, **steps), 2) == (
        "epoch 1 of 2: loss 0.25; 8 crops with a flat channel; 131 cells/s, 1% waiting for data"
    )


class TestCropsOfTraining:
    """Training never uses crops that are not those of the inputs."""

    def test_moved_cells_and_repaired_sites_enter(self, small):
        path = small.image("P1", "A02", channel="ER")
        content = path.read_bytes()
        path.write_bytes(b"")
        assert run(small, "export-sc").code == 1
        assert set(table(small)["Metadata_Well"]) == {"A01", "B01", "B02", "A03", "B03"}
        path.write_bytes(content)
        assert run(small, "train").code == 0
        assert "A02" in set(table(small)["Metadata_Well"])
        small.write_locations([(100, 100), (50, 60)], "P1", "A02")
        assert run(small, "train").code == 0
        moved = table(small)
        assert list(moved.loc[moved["Metadata_Well"] == "A02", "x"]) == [100, 50]

    def test_a_missing_table_is_made_anew(self, small):
        assert run(small, "export-sc").code == 0
        (small.root / "outputs/single-cells/P2.parquet").unlink()
        assert run(small, "train").code == 0
        assert len(table(small, "P2")) == 30

    def test_a_machine_without_images(self, small):
        assert run(small, "export-sc").code == 0
        shutil.rmtree(small.images)
        shutil.rmtree(small.root / "inputs/locations")
        answer = run(small, "train")
        assert answer.code == 0, answer.text
        assert "the images are not on this machine: the cells are used as exported" in answer.text
        small.config["crops"] = {"size": 48}
        small.write_config()
        assert run(small, "--exp", "other", "train").code == 2

    def test_a_plate_without_readable_images(self, small):
        for path in small.images.glob("P1/*"):
            path.write_bytes(b"")
        answer = run(small, "train")
        assert answer.code == 1, answer.text
        assert [row[0] for row in failures(small, "failed-export-sc.csv")] == ["P1"] * 6
        assert not (small.root / "outputs/single-cells/P1.h5").exists()
        assert len(table(small, "P2")) == 30
        assert "6 sites of the index without exported cells" in answer.text

    def test_mixed_sizes(self, small):
        for name in CHANNELS:
            path = small.image("P1", "A01", channel=name)
            tifffile.imwrite(path, np.ones((100, 120), np.uint16))
        small.write_locations([(50, 50), (200, 200)], "P1", "A01")
        answer = run(small, "export-sc")
        assert answer.code == 1
        assert failures(small, "failed-export-sc.csv") == [("P1", "A01", "3")]
        assert (table(small)["Metadata_Well"] == "A01").sum() == 1
        assert len(table(small)) == 26
        assert "57 located cells: 1 off their image, 56 exported" in answer.text
        assert run(small, "export-sc").code == 1, "it is not forgotten"

    def test_label_images(self, small):
        small.config["crops"] = {"size": 64, "mask": True}
        small.write_config()
        folder = small.root / "outputs/labels"
        everything = np.ones((256, 256), np.uint16)
        everything[0] = 0
        for plate in small.plates:
            (folder / plate).mkdir(parents=True)
            for path in small.images.glob(f"{plate}/*_DNA.tif"):
                labels = folder / plate / f"{path.name.split('_')[0]}-1.tif"
                tifffile.imwrite(labels, everything)
        tifffile.imwrite(folder / "P1/A01-1.tif", np.ones((300, 256), np.uint16))
        answer = run(small, "export-sc")
        assert answer.code == 1
        assert "A01-1.tif: 300 × 256 pixels, the site's images are 256 × 256" in answer.text
        with h5py.File(small.root / "outputs/single-cells/P2.h5") as file:
            before = file["crops"][0]
        # Nothing but one pixel is of the first cell now.
        labels = 2 * everything
        x, y = table(small, "P2")[["x", "y"]].to_numpy()[0].round().astype(int)
        labels[y, x] = 1
        tifffile.imwrite(folder / "P2/A01-1.tif", labels)
        tifffile.imwrite(folder / "P1/A01-1.tif", everything)
        assert run(small, "export-sc").code == 0
        with h5py.File(small.root / "outputs/single-cells/P2.h5") as file:
            after = file["crops"][0]
        assert (after > 0).sum() <= 3 < (before > 0).sum()


class TestHeldOutCells:
    """``train.validation.by: cells``."""

    def held(self, small, seed: int = 0) -> dict[str, set[tuple]]:
        """Cells that are held out, by label."""
        project = Project(small.root)
        store = CellStore([project.store_path(plate) for plate in project.index.plates])
        divided = divide_cells(project.index, store.table, project.config.train, seed)
        found = {}
        columns = store.table[[PLATE, WELL, SITE, CELL]]
        for code, name in enumerate(divided.classes):
            training, held = (
                set(columns.iloc[cells.row[cells.label == code]].itertuples(index=False, name=None))
                for cells in (divided.training, divided.validation)
            )
            assert not training & held
            assert len(held) == int(0.3 * (len(training) + len(held))), "the share is exact"
            found[name] = held
        return found

    def test_a_repaired_site_does_not_change_the_others(self, small):
        small.config["train"] |= {
            "controls": True,
            "validation": {"by": "cells", "fraction": 0.3},
        }
        small.write_config()
        path = small.image("P1", "A02")
        content = path.read_bytes()
        path.write_bytes(b"")
        assert run(small, "export-sc").code == 1
        before = self.held(small)
        path.write_bytes(content)
        assert run(small, "export-sc").code == 0
        after = self.held(small)
        assert set(after) == {"DMSO", "T1", "T2"}
        assert {name for name in after if after[name] != before[name]} <= {"T1"}
        old = {cell for cell in after["T1"] if cell[:2] != ("P1", "A02")}
        assert old <= before["T1"] or before["T1"] <= old, "only the share moves"
        assert self.held(small) == after
        assert self.held(small, seed=1) != after

    def test_every_cell_has_the_same_chance(self):
        count = 20_000
        cells = np.arange(count)
        table = pd.DataFrame({PLATE: "P", WELL: cells // 200 % 10, SITE: "1", CELL: cells})
        draws = np.stack([_draws(table, seed) for seed in (0, 1)]) / 2**64
        for one in draws:
            assert kstest(one, "uniform").pvalue > 0.001
        # Neither the neighbours in a site nor two seeds have to do with each other.
        assert abs(np.corrcoef(draws[0, 1:], draws[0, :-1])[0, 1]) < 4 / np.sqrt(count)
        assert abs(np.corrcoef(draws)[0, 1]) < 4 / np.sqrt(count)


class TestWeightsAndSeeds:
    def config(self, small) -> dict:
        return yaml.safe_load((small.root / "outputs/results/config.yaml").read_text())

    def test_the_seed_of_the_weights_is_kept(self, small):
        assert run(small, "train", "--seed", "5").code == 0
        assert self.config(small)["dataset"]["seed"] == 5
        answer = run(small, "train")
        assert answer.code == 0, answer.text
        assert (
            "training is resumed with the seed 5 that it began with; dataset.seed is 0"
            in answer.text
        )
        assert run(small, "train", "--seed", "6").code == 2
        assert run(small, "profile").code == 0
        assert self.config(small)["dataset"]["seed"] == 5

    def test_random_weights_have_a_config(self, small):
        small.config["profile"]["checkpoint"] = "random"
        small.config["dataset"]["seed"] = 3
        small.write_config()
        assert run(small, "profile").code == 0
        assert self.config(small)["profile"]["checkpoint"] == "random"
        assert self.config(small)["dataset"]["seed"] == 3

    def test_unfinished_training_is_told(self, small):
        answer = run(small, "train")
        small.config["train"]["epochs"] = 4
        small.write_config()
        answer = run(small, "profile")
        assert answer.code == 0
        assert "weights are of epoch 1 of 4; `train` continues" in answer.text
        small.config["train"]["epochs"] = 1
        small.write_config()
        assert "weights are of epoch" not in run(small, "profile").text

    def test_weights_of_other_images_are_refused(self, small):
        assert run(small, "train").code == 0
        small.config["crops"]["mask"] = True
        small.config["prepare"] = {"illumination": True}
        small.write_config()
        path = small.root / "outputs/results/checkpoint/last.h5"
        before = path.read_bytes()
        for words in (("profile",), ("train",)):
            answer = run(small, *words)
            assert answer.code == 2
            assert "crops.mask: False in the checkpoint, True here" in answer.text
            assert "prepare.illumination: False in the checkpoint, True here" in answer.text
        assert path.read_bytes() == before
        with h5py.File(path, "r+") as file:
            values = json.loads(file.attrs["description"])
            del values["classes"]
            file.attrs["description"] = json.dumps(values)
        small.config["crops"]["mask"] = False
        small.config["prepare"] = {"illumination": False}
        small.write_config()
        answer = run(small, "profile")
        assert answer.code == 2
        assert "last.h5 does not name its classes" in answer.text

    @pytest.mark.parametrize(
        ("section", "key", "value", "said"),
        [
            ("crops", "mode", "grid", "crops.mode: cells in the checkpoint, grid here"),
            ("crops", "coverage", 0.5, "crops.coverage: 1.0 in the checkpoint, 0.5 here"),
            ("crops", "cells_per_well", 3, "crops.cells_per_well: None in the checkpoint, 3 here"),
            (
                "train",
                "validation",
                {"by": "replicate"},
                "train.validation.by: None in the checkpoint, replicate here",
            ),
            ("train", "controls", True, "train.controls: False in the checkpoint, True here"),
            (
                "train",
                "labels",
                {"exclude": ["T2"]},
                "train.labels: None in the checkpoint, {'include': None, 'exclude': ['T2']} here",
            ),
        ],
    )
    def test_training_is_resumed_with_the_same_cells_only(self, small, section, key, value, said):
        assert run(small, "train").code == 0
        path = small.root / "outputs/results/checkpoint/last.h5"
        before = path.read_bytes()
        small.config["train"]["epochs"] = 2
        small.config[section][key] = value
        small.write_config()
        answer = run(small, "train")
        assert answer.code == 2
        assert said in answer.text
        assert path.read_bytes() == before
        if section == "train":
            assert run(small, "profile").code == 0, "weights are weights"

    def test_the_config_says_what_made_the_weights(self, small):
        assert run(small, "train", "--seed", "5").code == 0
        trained = self.config(small)
        small.config["train"] |= {"learning_rate": 0.5, "steps": 7}
        small.config["profile"]["batch_size"] = 9
        small.write_config()
        for _ in range(2):
            assert run(small, "profile").code == 0
            found = self.config(small)
            assert found["train"] == trained["train"]
            assert found["dataset"]["seed"] == 5
            assert found["profile"]["batch_size"] == 9
        path = small.root / "outputs/results/config.yaml"
        path.write_text("train: {steps: many}\n")
        answer = run(small, "profile")
        assert answer.code == 2
        assert "config.yaml does not say how the weights were trained" in answer.text
        path.unlink()
        assert run(small, "profile").code == 0
        assert self.config(small)["train"]["steps"] == 7

    def test_weights_that_are_not_finite(self, small):
        assert run(small, "train").code == 0
        with h5py.File(small.root / "outputs/results/checkpoint/last.h5", "r+") as file:
            file["weights/00000"][...] = np.nan
        # What follows, ReLU, makes numbers of them on some processors.
        small.config["profile"]["layers"] = ["conv"]
        small.write_config()
        answer = run(small, "profile")
        assert answer.code == 1
        assert "features are not finite; look for values in the image" in answer.text
        assert "train again or use other weights (profile.checkpoint)" in answer.text

    def test_mechanisms_are_never_seen(self, small):
        """The same weights, bit for bit, whatever the column says, and without it."""
        digests = set()
        for name, mechanisms in (
            ("right", {"T1": "M1", "T2": "M2"}),
            ("wrong", {"T1": "M2", "T2": "M1", "DMSO": "M1"}),
            ("without", None),
        ):
            for row in small.rows:
                row.pop("Metadata_Mechanism", None)
                if mechanisms is not None:
                    treatment = row["Metadata_Treatment"]
                    row["Metadata_Mechanism"] = mechanisms.get(treatment, "")
            small.write_index()
            assert run(small, "--exp", name, "train").code == 0
            digests.add(checkpoint.digest(small.root / f"outputs/{name}/checkpoint/last.h5"))
        assert len(digests) == 1

    def test_plugins_are_executed_once(self, small):
        plugin = small.root / "plugins/models/small.py"
        plugin.write_text(
            f"{plugin.read_text()}\nwith open({str(small.root / 'ran')!r}, 'a') as file:\n"
            "    file.write('x')\n"
        )
        answer = run(small, "train")
        assert answer.code == 0
        assert (small.root / "ran").read_text() == "x"
        assert answer.text.count("executing the project's own plugin") == 1

    def test_training_from_scratch(self, small):
        small.config["train"]["epochs"] = 2
        small.write_config()
        assert run(small, "train").code == 0
        small.config["train"]["epochs"] = 1
        small.write_config()
        assert run(small, "train", "--epoch", "1", "--seed", "8").code == 0
        state = checkpoint.read(small.root / "outputs/results/checkpoint/last.h5")
        assert (state.epoch, state.description.seed) == (1, 8)


class TestProfiles:
    def test_dropped_cells_are_not_forgotten(self, small):
        small.write_locations([(100, 100), (900, 900)], "P1", "A01")
        for _ in range(2):
            answer = run(small, "profile")
            assert answer.code == 1
            assert failures(small, "results/failed.csv") == [("P1", "A01", "3")]
            assert "left out 1 cells" in answer.text
        assert "kept 12 wells" in answer.text

    def test_parts_need_weights(self, small):
        assert run(small, "split", "--parts", "2").code == 0
        answer = run(small, "profile", "--part", "0")
        assert answer.code == 2
        assert "run train on the whole index" in answer.text
        for stage in ("export-sc", "train"):
            answer = run(small, "--metadata", "index-000.csv", stage)
            assert answer.code == 2
            assert f"run {stage} on the whole index" in answer.text
        assert not (small.root / "outputs/results").exists()
        assert run(small, "train").code == 0
        assert run(small, "profile", "--part", "0").code == 0

    def test_few_crops_are_in_memory(self, tmp_path, monkeypatch):
        sites = tuple(str(number) for number in range(1, 13))
        base = BaseProject(tmp_path / "project", (96, 96), plates=("P1",), sites=sites)
        base.rows = base.rows[: len(sites)]
        base.config["prepare"] = {"illumination": False}
        base.config["profile"]["checkpoint"] = "random"
        base.config["profile"]["batch_size"] = 4
        use_small_network(base).write()
        made = []
        original = profile_stage.extract

        def watched(sites, *others):
            def counting():
                for crops in sites:
                    assert crops.dtype == np.uint16
                    assert sum(one() is not None for one in made) <= 2
                    made.append(weakref.ref(crops))
                    yield crops

            yield from original(counting(), *others)

        monkeypatch.setattr(profile_stage, "extract", watched)
        assert run(base, "profile").code == 0
        assert len(made) == len(sites)
