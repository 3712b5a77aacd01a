"""Weight files of others, through the commands: what fits, and how crops are scaled."""

from __future__ import annotations

import json
import shutil
import socket
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import h5py
import keras
import numpy as np
import pytest
import tifffile
from base_plugin import use_small_network
from base_project import CHANNELS, BaseProject
from command import Answer, command
from keras2_file import randomize, weights_of, write

from deepprofiler.config.original_layers import layer_names
from deepprofiler.learning import checkpoint
from deepprofiler.learning import keras_weights as pretrained
from deepprofiler.learning.keras_weights import load
from deepprofiler.project.well_file import read_well
from deepprofiler.registry import MODELS, discover

SIZE = 64
FILE = "published.hdf5"
# A 1 × 1 convolution, and the highest value of each channel: features tell how crops are scaled.
_PEAK = '''\
"""The highest value of each channel."""

import keras

from deepprofiler.learning.network import Network
from deepprofiler.registry import MODELS

ADDRESS = "https://127.0.0.1:9/models/peak_notop.h5"


@MODELS.register
def peak(input_shape, num_classes, *, known=True):
    """Build the network."""
    crops = keras.Input(input_shape, name="crops")
    x = keras.layers.Conv2D(input_shape[-1], 1, use_bias=False, name="mix")(crops)
    x = keras.layers.GlobalMaxPooling2D(name="top")(x)
    logits = keras.layers.Dense(num_classes, name="logits")(x)
    return Network(
        keras.Model(crops, logits),
        keras.Model(crops, x),
        pretrained=ADDRESS if known else None,
    )
'''


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("template") / "project"
    return BaseProject(root, (128, 128), ("P1",), ("1",)).write().root


@pytest.fixture
def base(written, tmp_path) -> BaseProject:
    """One plate; crops whose every channel has 1000 in three quarters of its pixels, else 3000."""
    base = BaseProject(
        Path(shutil.copytree(written, tmp_path / "project")), (128, 128), ("P1",), ("1",)
    )
    use_small_network(base)
    (base.root / "plugins/models/peak.py").write_text(_PEAK)
    base.config |= {"prepare": {"illumination": False}, "crops": {"size": SIZE}}
    base.config["train"]["model"] = "peak"
    base.config["profile"] = {"layers": ["top"], "checkpoint": FILE, "batch_size": 16}
    image = np.full((128, 128), 1000, np.uint16)
    image[::2, ::2] = 3000
    for row in base.rows:
        for name in CHANNELS:
            tifffile.imwrite(base.images / row[name], image)
        keys = (row[f"Metadata_{key}"] for key in ("Plate", "Well", "Site"))
        base.write_locations([(64, 64), (60, 70)], *keys)
    base.write_config()
    return base


def run(base: BaseProject, *words: str) -> Answer:
    return command(base.root, "--cores", "1", *words)


def put_file(base: BaseProject, classes: int = 4, kernel: np.ndarray | None = None) -> Path:
    folder = base.root / "outputs/results/checkpoint"
    folder.mkdir(parents=True, exist_ok=True)
    kernel = np.eye(3)[None, None] if kernel is None else kernel
    head = [("kernel", np.ones((3, classes), "f")), ("bias", np.ones(classes, "f"))]
    layers = {"input_1": [], "mix": [("kernel", kernel.astype("f"))], "ClassProb": head}
    return write(folder / FILE, layers)


def top(base: BaseProject) -> np.ndarray:
    return read_well(base.well_file()).features


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (None, 1.0),
        ("min-max", 1.0),
        ("legacy-0.3", 2 / 3),
        ("standardize", np.sqrt(3)),
        ("max", 1.0),
        ("none", 3000.0),
    ],
)
def test_the_rule_that_scales_crops(base, rule, expected):
    put_file(base)
    if rule:
        base.config["crops"]["rescale"] = rule
        base.write_config()
    answer = run(base, "profile")
    assert answer.code == 0, answer.text
    np.testing.assert_allclose(top(base), expected, rtol=1e-5)
    origin = read_well(base.well_file()).provenance
    assert origin.rescale == (rule or "min-max")
    assert ("does not say how its crops were scaled" in answer.text) is (rule is None)
    assert ("`legacy-0.3` (September 2021 to August 2024)" in answer.text) is (rule is None)


def test_an_original_config_names_the_rule(base):
    put_file(base)
    folder = base.root / "inputs/config"
    (folder / "config.yaml").unlink()
    config = {
        "dataset": {
            "metadata": {"label_field": "Treatment", "control_value": "DMSO"},
            "images": {"channels": list(CHANNELS), "height": 128, "width": 128},
            "locations": {"mode": "single_cells", "box_size": SIZE},
        },
        "train": {"model": {"name": "peak", "crop_generator": "sampled_crop_generator"}},
        "profile": {"feature_layer": "top", "checkpoint": FILE},
    }
    for rule, expected in ((None, 1.0), ("legacy-0.3", 2 / 3), ("standardize", None)):
        if rule:
            config["crops"] = {"rescale": rule}
        (folder / "config.json").write_text(json.dumps(config))
        answer = run(base, "profile")
        assert answer.code == 0, answer.text
        assert ("config.json: crops are scaled by `min-max`" in answer.text) is (rule is None)
        # Resampled between pixels, so that the peaks are a little lower.
        if expected:
            np.testing.assert_allclose(top(base), expected, rtol=0.01)
        assert read_well(base.well_file()).provenance.rescale == (rule or "min-max")


def test_classes_and_labels_do_not_matter(base):
    found, digests = [], set()
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(1, 1, 3, 3))
    for classes in (4, 2, 490):
        put_file(base, classes, kernel)
        if classes == 490:
            for row in base.rows:
                for name in ("Treatment", "Control", "Replicate"):
                    del row[f"Metadata_{name}"]
            base.write_index()
        shutil.rmtree(base.root / "outputs/results/features", ignore_errors=True)
        answer = run(base, "profile")
        assert answer.code == 0, answer.text
        found.append(top(base))
        digests.add(read_well(base.well_file()).provenance.digest)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
    assert len(digests) == 1
    put_file(base, kernel=kernel + 1)
    assert run(base, "profile").code == 0
    assert read_well(base.well_file()).provenance.digest not in digests
    assert not np.allclose(top(base), found[0])


def test_another_backbone_is_refused(base):
    put_file(base, kernel=np.ones((1, 1, 5, 5)))
    answer = run(base, "profile")
    assert answer.code == 2
    assert "0 of 1 layers match, nothing was loaded" in answer.text
    assert "mix is (1, 1, 5, 5) in the file, (1, 1, 3, 3) in the network" in answer.text
    assert not base.well_file().exists()


def test_what_is_no_weight_file(base):
    path = put_file(base)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"\x80\x04K\x01.", b""):
        path.write_bytes(content)
        answer = run(base, "profile")
        assert answer.code == 2
        assert f"{FILE} is not a readable HDF5 file" in answer.text
    path.unlink()
    answer = run(base, "profile")
    assert answer.code == 2
    assert f"{FILE} does not exist" in answer.text
    assert "it is last, best, imagenet, random, or the name of a file" in answer.text


class TestBeginning:
    """``train.weights``."""

    def begin(self, base: BaseProject, weights: str, **model: object) -> Answer:
        base.config["train"] |= {"weights": weights, "learning_rate": 1e-30, "epochs": 1}
        base.config["train"]["model"] = {"name": "peak", "params": model}
        base.config["crops"]["rescale"] = "min-max"
        base.config["profile"]["checkpoint"] = "last"
        base.write_config()
        return run(base, "train")

    def kernel(self, base: BaseProject) -> np.ndarray:
        path = base.root / "outputs/results/checkpoint/last.h5"
        with h5py.File(path) as file:
            found = {item.attrs["name"]: item[()] for item in file["weights"].values()}
        return found["mix/kernel"]

    def test_a_file_of_keras_2(self, base):
        kernel = np.random.default_rng(0).normal(size=(1, 1, 3, 3)).astype("f")
        path = put_file(base, kernel=kernel)
        answer = self.begin(base, str(path.relative_to(base.root)))
        assert answer.code == 0, answer.text
        assert "training begins with 1 layer of outputs/results/checkpoint/" in answer.text
        np.testing.assert_allclose(self.kernel(base), kernel, rtol=1e-6)
        # Going on with training asks no more for it.
        path.unlink()
        base.config["train"]["epochs"] = 2
        base.write_config()
        assert run(base, "train").code == 0

    def test_a_checkpoint_of_ours(self, base, tmp_path):
        kernel = np.random.default_rng(0).normal(size=(1, 1, 3, 3)).astype("f")
        assert self.begin(base, str(put_file(base, kernel=kernel))).code == 0
        ours = shutil.copy(base.root / "outputs/results/checkpoint/last.h5", tmp_path / "ours.h5")
        shutil.rmtree(base.root / "outputs/results")
        base.config["train"]["controls"] = True
        answer = self.begin(base, str(ours))
        assert answer.code == 0, answer.text
        digest = checkpoint.digest(Path(ours))
        assert f"training begins with {ours} (weights {digest[:12]})" in answer.text
        np.testing.assert_allclose(self.kernel(base), kernel, rtol=1e-6)
        state = checkpoint.read(base.root / "outputs/results/checkpoint/last.h5")
        assert state.description.classes == ("DMSO", "T1", "T2")
        base.config["dataset"]["channels"] = ["ER", "DNA", "AGP"]
        shutil.rmtree(base.root / "outputs/results")
        answer = self.begin(base, str(ours))
        assert answer.code == 2
        assert "['DNA', 'ER', 'AGP'] in the checkpoint, ['ER', 'DNA', 'AGP'] here" in answer.text

    def test_imagenet(self, base, tmp_path, monkeypatch):
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
        answer = self.begin(base, "imagenet")
        assert answer.code == 2
        path = tmp_path / "keras/models/peak_notop.h5"
        assert "https://127.0.0.1:9/models/peak_notop.h5 cannot be downloaded" in answer.text
        assert f"put it at {path}" in answer.text
        kernel = np.random.default_rng(0).normal(size=(1, 1, 3, 3)).astype("f")
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, {"mix": [("kernel", kernel)]})
        answer = self.begin(base, "imagenet")
        assert answer.code == 0, answer.text
        assert "training begins with 1 layer of imagenet" in answer.text
        np.testing.assert_allclose(self.kernel(base), kernel, rtol=1e-6)
        base.config["profile"]["checkpoint"] = "imagenet"
        base.write_config()
        assert run(base, "profile").code == 0
        origin = read_well(base.well_file()).provenance
        assert origin.checkpoint == "imagenet"
        expected = np.maximum.reduce([np.zeros(3), kernel[0, 0].sum(axis=0)])
        np.testing.assert_allclose(top(base), np.tile(expected, (2, 1)), rtol=1e-5)

    def test_what_does_not_exist(self, base):
        answer = self.begin(base, "imagenet", known=False)
        assert answer.code == 2
        assert "there are no weights of ImageNet for the model `peak`" in answer.text
        assert "train.weights is none, a weight file, or" in answer.text
        answer = self.begin(base, "weights.h5")
        assert answer.code == 2
        assert f"{base.root / 'weights.h5'} does not exist" in answer.text


def test_a_server_that_never_answers(tmp_path, monkeypatch):
    """The wait is limited; nothing half is left in the cache."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(pretrained, "_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/models/a.h5"
        start = time.monotonic()
        with pytest.raises(pretrained.DataError, match=r"a\.h5 cannot be downloaded"):
            pretrained.fetch(address)
        assert time.monotonic() - start < 5
    assert not list(tmp_path.rglob("*.h5"))


def test_a_download_that_breaks_off(tmp_path, monkeypatch):
    class Half(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"half")

        def log_message(self, *_):
            pass

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with HTTPServer(("127.0.0.1", 0), Half) as server:
        Thread(target=server.handle_request).start()
        with pytest.raises(pretrained.DataError, match=r"downloaded \(the connection broke off\)"):
            pretrained.fetch(f"http://127.0.0.1:{server.server_port}/models/a.h5")
    assert not list(tmp_path.rglob("*.h5"))


def test_imagenet_features_equal_keras_applications(tmp_path, monkeypatch):
    discover(None)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    theirs = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(SIZE, SIZE, 3), pooling="avg"
    )
    randomize(theirs)
    ours = MODELS.build("efficientnet_b0", (SIZE, SIZE, 3), 2)
    path = pretrained.cached(ours.pretrained)
    assert path == tmp_path / "models" / "efficientnetb0_notop.h5"
    path.parent.mkdir()
    write(path, weights_of(theirs, skip=("normalization",)))
    assert pretrained.fetch(ours.pretrained) == path
    load(path, ours, names=layer_names, repeat_filters=True)
    x = np.random.default_rng(0).random((2, SIZE, SIZE, 3), np.float32)
    expected = np.asarray(theirs(255 * x))
    atol = 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(ours.backbone(x), expected, rtol=1e-3, atol=atol)
    five = MODELS.build("efficientnet_b0", (SIZE, SIZE, 5), 2)
    load(path, five, names=layer_names, repeat_filters=True)
    kernel = np.asarray(five.backbone.get_layer("stem_conv").kernel)
    rgb = np.asarray(theirs.get_layer("stem_conv").kernel)
    np.testing.assert_allclose(kernel, rgb[:, :, [0, 1, 2, 0, 1]] * 3 / 5, rtol=1e-6)
