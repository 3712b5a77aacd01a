"""Bad input to every command: a message that helps, and nothing half-written."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from base_plugin import use_small_network
from base_project import BaseProject
from command import Answer, command

from deepprofiler.learning import checkpoint
from deepprofiler.project.well_file import read_well

ROOT = Path(__file__).resolve().parents[2]
READING = {
    "check": ("check",),
    "prepare": ("prepare",),
    "locate": ("locate",),
    "export-sc": ("export-sc",),
    "layers": ("layers",),
    "train": ("train",),
    "profile": ("profile",),
    "split": ("split", "--parts", "2"),
    "analyze": ("analyze",),
    "run": ("run",),
}
every_command = pytest.mark.parametrize("words", READING.values(), ids=list(READING))


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A good project of one plate, two sites a well, with a network that takes a second."""
    base = BaseProject(tmp_path_factory.mktemp("template") / "project", plates=("P1",))
    return use_small_network(base).write().root


@pytest.fixture
def base(written, tmp_path) -> BaseProject:
    """A copy of it that a test may break."""
    project = BaseProject(tmp_path / "project", plates=("P1",))
    shutil.copytree(written, project.root)
    return use_small_network(project)


def files(root: Path) -> dict[str, int]:
    """Every file below ``root`` and when it was written."""
    return {
        str(path.relative_to(root)): path.stat().st_mtime_ns
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def run(root: Path, *words: str) -> Answer:
    """One command on one core; there is never a traceback, nor a temporary file left."""
    answer = command(root, "--cores", "1", *words)
    assert "Traceback" not in answer.text
    assert not list(root.rglob("*.part*")), "a temporary file was left"
    return answer


def refused(root: Path, *words: str, says: tuple[str, ...]) -> str:
    """The command ends with 2, one error, and the project as it was; gives what was printed."""
    before = files(root) if root.is_dir() else {}
    answer = run(root, *words)
    assert answer.code == 2, answer.text
    assert answer.text.count("error: ") == 1 or answer.text.startswith("Usage: "), answer.text
    for part in says:
        assert part in answer.text, answer.text
    assert (files(root) if root.is_dir() else {}) == before
    return answer.text


class TestAtTheDoor:
    """What every command that reads a project refuses before it does anything."""

    @every_command
    def test_no_project(self, tmp_path, words):
        refused(tmp_path / "absent", *words, says=("absent is not a directory", "setup"))
        assert not (tmp_path / "absent").exists()

    @every_command
    def test_the_project_is_a_file(self, tmp_path, words):
        path = tmp_path / "project"
        path.write_text("no folder")
        refused(path, *words, says=("project is not a directory",))

    @every_command
    def test_no_config(self, base, words):
        (base.root / "inputs/config/config.yaml").unlink()
        refused(base.root, *words, says=("holds no .yaml or .json file", "setup` writes one"))

    @every_command
    def test_several_configs(self, base, words):
        (base.root / "inputs/config/other.json").write_text("{}")
        refused(base.root, *words, says=("config.yaml, other.json", "--config NAME"))

    @every_command
    def test_the_named_config_does_not_exist(self, base, words):
        refused(base.root, "--config", "c.yaml", *words, says=("c.yaml does not exist",))

    @every_command
    def test_the_config_is_a_folder(self, base, words):
        path = base.root / "inputs/config/config.yaml"
        path.unlink()
        path.mkdir()
        refused(base.root, *words, says=("config.yaml cannot be read",))

    @every_command
    def test_the_config_is_no_yaml(self, base, words):
        (base.root / "inputs/config/config.yaml").write_text("train: [")
        refused(base.root, *words, says=("config.yaml is not valid YAML", "line 1"))

    @every_command
    def test_unknown_section(self, base, words):
        base.config["trian"] = base.config.pop("train")
        base.write_config()
        refused(base.root, *words, says=("trian", "nearest is `train`"))

    @every_command
    def test_a_channel_that_does_not_exist(self, base, words):
        base.config["dataset"]["channels"] = ["DNA", "Mito"]
        base.write_config()
        refused(
            base.root, *words, says=("dataset.channels names `Mito`", "not a column of index.csv")
        )

    @every_command
    def test_no_index(self, base, words):
        base.index.unlink()
        refused(base.root, *words, says=("index.csv does not exist",))

    @every_command
    def test_the_named_index_does_not_exist(self, base, words):
        refused(base.root, "--metadata", "i.csv", *words, says=("i.csv does not exist",))

    @every_command
    def test_the_index_is_a_folder(self, base, words):
        base.index.unlink()
        base.index.mkdir()
        refused(base.root, *words, says=("index.csv cannot be read",))

    @every_command
    def test_a_column_is_missing(self, base, words):
        base.index.write_text(base.index.read_text().replace("Metadata_Well", "Metadata_Wel", 1))
        refused(base.root, *words, says=("has no column Metadata_Well", "Metadata_Wel"))

    @every_command
    def test_two_sites_of_one_name(self, base, words):
        base.rows.append(base.rows[3])
        base.write_index()
        refused(base.root, *words, says=("line 14", "line 5", "site 2 of well B01"))

    @every_command
    def test_two_sites_with_one_location_file(self, base, words):
        base.rows[0] |= {"Metadata_Well": "A-1", "Metadata_Site": "2"}
        base.rows[1] |= {"Metadata_Well": "A", "Metadata_Site": "1-2"}
        base.write_index()
        refused(base.root, *words, says=("lines ", "A-1-2-Nuclei.csv", "rename"))

    @every_command
    def test_a_reserved_name(self, base, words):
        refused(base.root, "--single-cells", "illumination", *words, says=("illumination",))
        refused(base.root, "--exp", "Labels", *words, says=("Labels", "another name"))
        refused(base.root, "--exp", "single-cells", *words, says=("different names",))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("train", "--epoch", "0"), "--epoch"),
        (("train", "--epoch", "many"), "--epoch"),
        (("train", "--seed", "-1"), "--seed"),
        (("train", "--seed", "4294967296"), "--seed"),
        (("train", "--seed", "1.5"), "--seed"),
        (("train", "--epoch", "7"), "the next is 1"),
        (("profile", "--part", "-1"), "--part"),
        (("profile", "--part", "3"), "index-003.csv does not exist"),
        (("split",), "--parts"),
        (("split", "--parts", "0"), "--parts"),
        (("split", "--parts", "7"), "6 wells"),
        (("simulate", "--screen", "huge"), "--screen"),
        (("simulate", "--seed", "x"), "--seed"),
        (("--gpu", "7", "train"), "--gpu 7"),
        (("--gpu", "one", "profile"), "--gpu one"),
        (("--cores", "-1", "check"), "--cores"),
        (("--exp", " ", "check"), "--exp"),
        (("profil",), "profil"),
        (("check", "now"), "now"),
    ],
)
def test_options_that_make_no_sense(base, words, says):
    if words[0] == "train":
        # The cells are there, so that nothing else is made before the option is looked at.
        assert run(base.root, "export-sc").code == 0
    refused(base.root, *words, says=(says,))


class TestImages:
    """Sites that cannot be read are left out, named and counted; the rest is finished."""

    def broken(self, base: BaseProject, kind: str) -> Path:
        path = base.image("P1", "A02", "1", "ER")
        if kind == "truncated":
            path.write_bytes(path.read_bytes()[:5000])
        elif kind == "a folder":
            path.unlink()
            path.mkdir()
        elif kind == "absent":
            path.unlink()
        elif kind == "two channels":
            tifffile.imwrite(path, np.zeros((2, 256, 256), np.uint16))
        elif kind == "a loop of links":
            path.unlink()
            path.symlink_to(path)
        return path

    @pytest.mark.parametrize(
        "kind", ["truncated", "a folder", "absent", "two channels", "a loop of links"]
    )
    def test_one_unreadable_image(self, base, kind):
        path = self.broken(base, kind)
        for stage in ("check", "prepare", "export-sc"):
            answer = run(base.root, stage)
            assert answer.code == 1, answer.text
            assert path.name in answer.text, answer.text
            assert "line 6" in answer.text, answer.text
        rows = (base.root / "outputs/failed-export-sc.csv").read_text().splitlines()
        assert len(rows) == 2
        assert rows[1].startswith("P1,A02,1,export-sc,")
        assert path.name in rows[1]
        with h5py.File(base.root / "outputs/illumination/P1.h5") as file:
            assert file.attrs["count"] == 11

    def test_the_first_one_with_strict(self, base):
        path = self.broken(base, "truncated")
        for stage in ("prepare", "export-sc"):
            refused(base.root, "--strict", stage, says=("P1/A02/1", path.name))
        assert not (base.root / "outputs/illumination").exists()

    def test_no_image_at_all(self, base):
        shutil.rmtree(base.images)
        answer = run(base.root, "check")
        assert answer.code == 1
        assert "36 problems and 0 warnings" in answer.text
        answer = run(base.root, "prepare")
        assert answer.code == 1
        assert "none of the plate's sites could be read" in answer.text
        answer = run(base.root, "export-sc")
        assert answer.code == 1
        assert "left out 12 sites" in answer.text
        assert not list(base.root.glob("outputs/*/*.h5"))

    def test_repaired_images_are_measured(self, base):
        path = base.image("P1", "A02", "1", "ER")
        content = path.read_bytes()
        self.broken(base, "truncated")
        assert run(base.root, "prepare").code == 1
        path.write_bytes(content)
        assert run(base.root, "prepare").code == 0
        with h5py.File(base.root / "outputs/illumination/P1.h5") as file:
            assert file.attrs["count"] == 12
        assert (base.root / "outputs/failed-prepare.csv").read_text().count("\n") == 1


class TestLocations:
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "is empty"),
            ("x,y\n1,2\n", "Nuclei_Location_Center_X"),
            ("Nuclei_Location_Center_X,Nuclei_Location_Center_Y\n12,left\n", "line 2"),
            ("\0\0\0\0", "zero bytes"),
        ],
    )
    def test_damaged(self, base, text, says):
        base.location("P1", "A01", "2").write_text(text)
        answer = run(base.root, "check")
        assert answer.code == 1
        assert says in answer.text
        answer = run(base.root, "export-sc")
        assert answer.code == 1
        assert says in answer.text
        assert "left out 1 sites" in answer.text

    def test_a_folder_named_like_one(self, base):
        path = base.location("P1", "A01", "2")
        path.unlink()
        path.mkdir()
        answer = run(base.root, "export-sc")
        assert answer.code == 1
        assert path.name in answer.text

    def test_names_that_are_patterns(self, base):
        base.rows[0]["Metadata_Well"] = "*"
        base.rows[1]["Metadata_Well"] = "/A[0"
        base.write_index()
        answer = run(base.root, "export-sc")
        assert answer.code == 1
        assert answer.text.count("was not located") == 2

    def test_no_nuclear_channel(self, base):
        base.config["dataset"]["channels"] = ["ER", "AGP"]
        base.write_config()
        refused(base.root, "locate", says=("DNA, Hoechst or DAPI", "locate.channel"))
        base.config["locate"] = {"channel": "Mito"}
        base.write_config()
        refused(base.root, "locate", says=("locate.channel is Mito",))


class TestLabels:
    def test_one_class(self, base):
        for row in base.rows:
            row["Metadata_Treatment"] = row["Metadata_Treatment"].replace("T2", "T1")
        base.write_index()
        assert run(base.root, "export-sc").code == 0
        refused(base.root, "train", says=("2 labels", "Metadata_Treatment", "T1"))
        answer = run(base.root, "check")
        assert answer.code == 1
        assert "warning: train: " in answer.text

    def test_none(self, base):
        for row in base.rows:
            del row["Metadata_Treatment"]
        base.write_index()
        refused(base.root, "train", says=("label", "dataset.columns.label"))
        assert run(base.root, "check").code == 0


class TestPlugins:
    def test_unknown_model(self, base):
        base.config["train"]["model"] = "smal"
        base.write_config()
        for words in ("layers", "profile", "train"):
            answer = run(base.root, words)
            assert answer.code == 2
            assert "smal" in answer.text
            assert "small" in answer.text

    def test_unknown_layer(self, base):
        base.config["profile"] |= {"layers": ["relu9"], "checkpoint": "random"}
        base.write_config()
        answer = run(base.root, "profile")
        assert answer.code == 2
        assert "relu9" in answer.text
        assert not list(base.root.glob("outputs/results/features/**/*.h5"))

    def test_a_plugin_that_is_no_python(self, base):
        (base.root / "plugins/models/small.py").write_text("def small(:")
        refused(base.root, "layers", says=("small.py",))


class TestFolders:
    """A disk that refuses."""

    @pytest.mark.parametrize("words", ["prepare", "export-sc", "profile", "run"])
    def test_a_file_where_a_folder_is_expected(self, base, words):
        (base.root / "outputs").write_text("in the way")
        refused(base.root, words, says=("outputs", "in the way"))

    @pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder none may write to")
    @pytest.mark.parametrize("words", ["prepare", "export-sc", "profile", "run"])
    def test_a_folder_that_cannot_be_written(self, base, words):
        # Even root may not write there.
        (base.root / "outputs").symlink_to("/sys/kernel")
        refused(base.root, words, says=("/outputs/", "allow this user to write"))

    @pytest.mark.parametrize("words", [("setup",), ("simulate", "--screen", "tiny")])
    def test_no_room_for_a_project(self, tmp_path, words):
        path = tmp_path / "file"
        path.write_text("in the way")
        refused(path, *words, says=("file", "move away the file"))
        assert path.read_text() == "in the way"

    def test_setup_and_simulate_leave_what_exists(self, base):
        before = files(base.root)
        assert run(base.root, "setup").code == 0
        assert files(base.root).items() >= before.items()
        refused(base.root, "simulate", "--screen", "tiny", says=("already holds another screen",))


def damage(path: Path, kind: str) -> None:
    """Break an HDF5 file."""
    data = path.read_bytes()
    if kind == "cut in half":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("no HDF5 file\n")
    elif kind == "of another kind":
        with h5py.File(path, "w") as file:
            file["x"] = [1]
    elif kind == "zeros inside":
        path.write_bytes(data[:100] + bytes(len(data) - 100))


damaged = pytest.mark.parametrize(
    "kind", ["cut in half", "empty", "text", "of another kind", "zeros inside"]
)


class TestDamagedFiles:
    @pytest.fixture(scope="class")
    @classmethod
    def finished(cls, written, tmp_path_factory) -> Path:
        root = tmp_path_factory.mktemp("finished") / "project"
        shutil.copytree(written, root)
        assert command(root, "--cores", "1", "profile").code == 0
        return root

    @pytest.fixture
    def done(self, finished, tmp_path) -> Path:
        """A copy of a profiled project."""
        return Path(shutil.copytree(finished, tmp_path / "done"))

    @damaged
    def test_illumination(self, done, kind):
        path = done / "outputs/illumination/P1.h5"
        whole = path.read_bytes()
        damage(path, kind)
        shutil.rmtree(done / "outputs/single-cells")
        answer = run(done, "export-sc")
        assert answer.code == 0, answer.text
        assert "P1.h5" in answer.text
        assert "plate P1 is measured again" in answer.text
        assert path.read_bytes() == whole

    @damaged
    def test_store(self, done, kind):
        path = done / "outputs/single-cells/P1.h5"
        whole = path.read_bytes()
        damage(path, kind)
        shutil.rmtree(done / "outputs/results/checkpoint")
        images = done / "inputs/images"
        images.rename(done / "elsewhere")
        refused(done, "train", says=("single-cells/P1.h5", "export-sc"))
        (done / "elsewhere").rename(images)
        assert run(done, "train").code == 0
        assert path.read_bytes() == whole

    def test_table_of_the_store(self, done):
        path = done / "outputs/single-cells/P1.parquet"
        path.write_bytes(path.read_bytes()[:100])
        assert run(done, "train").code == 0
        answer = run(done, "export-sc")
        assert answer.code == 0
        assert "kept 60 cells" in answer.text

    @damaged
    def test_checkpoint(self, done, kind):
        damage(done / "outputs/results/checkpoint/last.h5", kind)
        refused(done, "train", says=("checkpoint/last.h5",))
        refused(done, "profile", says=("checkpoint/last.h5",))

    @damaged
    def test_well(self, done, kind):
        path = done / "outputs/results/features/P1/A02.h5"
        whole = read_well(path)
        damage(path, kind)
        refused(done, "analyze", says=("P1/A02.h5", "profile"))
        assert run(done, "profile").code == 0
        np.testing.assert_allclose(read_well(path).features, whole.features, atol=1e-6)

    def test_failed_table(self, done):
        (done / "outputs/results/failed.csv").write_text("name\nsomething else\n")
        answer = run(done, "profile")
        assert answer.code == 2
        assert "not a table of failures" in answer.text

    def test_nothing_to_do_changes_nothing(self, done):
        before = contents(done)
        for words in ("prepare", "locate", "export-sc", "train", "profile"):
            assert run(done, words).code == 0
        assert contents(done) == before


# A command that is killed when its n-th file is about to appear.
KILL = """
import os, signal, sys
from pathlib import Path
replace, left = Path.replace, [int(sys.argv.pop(1))]
def count(self, target):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
Path.replace = count
from deepprofiler.cli import main
main()
"""
# The same command on several projects, in one process.
ON_EACH = """
import sys
from deepprofiler.cli import main
_, stage, *roots = sys.argv
for root in roots:
    sys.argv = ["deepprofiler", "--root", root, "--cores", "1", stage]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""


def process(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own."""
    start = [sys.executable, "-c", code, *words]
    return subprocess.run(start, cwd=ROOT, capture_output=True, text=True, check=False)


def contents(root: Path) -> dict[str, object]:
    """What the commands wrote, except for the times that training took."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if not path.is_file() or "__pycache__" in name or "/logs/" in name:
            continue
        if path.parent.name == "checkpoint":
            state = checkpoint.read(path)
            found[name] = checkpoint.digest(path), [epoch.loss for epoch in state.history]
        elif path.parent.parent.name == "features":
            # As numbers and text: HDF5 notes in groups when they were made.
            well = read_well(path)
            found[name] = well.features.tolist(), well.cells.to_csv(), well.provenance
        else:
            found[name] = path.read_bytes()
    return found


@pytest.mark.parametrize(
    ("before", "stage", "file"),
    [
        ((), "prepare", 1),
        ((), "prepare", 9),
        (("prepare",), "locate", 4),
        (("prepare",), "export-sc", 1),
        (("prepare",), "export-sc", 2),
        (("export-sc",), "train", 5),
        (("train",), "profile", 4),
    ],
)
def test_killed_half_way(base, tmp_path, before, stage, file):
    """Killed when its n-th file is about to appear; run again, everything is as if it never was."""
    base.config["prepare"] = {"compress": True}
    base.config["train"]["epochs"] = 3
    base.write_config()
    if stage == "locate":
        shutil.rmtree(base.root / "inputs/locations")
    for earlier in before:
        assert run(base.root, earlier).code == 0
    other = Path(shutil.copytree(base.root, tmp_path / "other"))
    killed = process(KILL, str(file), "--root", str(base.root), "--cores", "1", stage)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(base.root.rglob(".*.part"))) == 1
    half = contents(base.root)
    # Networks: in one process, since the number of cores decides the last bit of a sum.
    if stage in ("train", "profile"):
        both = process(ON_EACH, stage, str(other), str(base.root))
        assert both.returncode == 0, both.stderr
    else:
        assert run(other, stage).code == run(base.root, stage).code == 0
    whole, again = contents(other), contents(base.root)
    assert half != whole
    assert again.keys() == whole.keys()
    assert [name for name in whole if again[name] != whole[name]] == []
