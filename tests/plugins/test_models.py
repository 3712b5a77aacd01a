"""The shipped models against other libraries' and against closed forms."""

from __future__ import annotations

from typing import Any

import keras
import keras2_file
import numpy as np
import pytest
import tifffile
from base_plugin import use_small_network
from base_project import CHANNELS, BaseProject
from command import command

from deepprofiler.errors import PluginError
from deepprofiler.learning.extract import feature_function
from deepprofiler.learning.keras_weights import load
from deepprofiler.learning.network import Network
from deepprofiler.project.well_file import read_provenance, read_well
from deepprofiler.registry import MODELS, discover

discover(None)
BOTTLENECKS = {"resnet50": keras.applications.ResNet50, "resnet101": keras.applications.ResNet101}


def crops(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def copy_weights(source: keras.Model, target: keras.Model) -> int:
    """Give layers the weights of those of the same name; return how many there were."""
    found = {layer.name: layer.get_weights() for layer in source.layers}
    count = 0
    for layer in target.layers:
        if layer.weights:
            layer.set_weights(found[layer.name])
            count += 1
    return count


def disturb(model: keras.Model) -> None:
    """Random values for what is 0 or 1 at the start: biases, scales, moving statistics."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if len(weight.shape) == 1:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))


def test_resnet18_is_the_paper_s() -> None:
    for channels in (3, 4, 5):
        network = MODELS.build("resnet18", (128, 128, channels), 103)
        assert 11.2e6 <= network.train.count_params() <= 11.4e6
    sizes = dict(network.layers())
    blocks = [f"conv{stage}{letter}" for stage in (2, 3, 4, 5) for letter in "ab"]
    assert [sizes[name] for name in blocks] == [64, 64, 128, 128, 256, 256, 512, 512]
    shapes = [network.backbone.get_layer(name).output.shape[1] for name in blocks]
    assert shapes == [32, 32, 16, 16, 8, 8, 4, 4]
    names = {layer.name for layer in network.features(["conv4a"]).layers}
    assert not any(name.startswith(("conv4b", "conv5", "pool5", "logits")) for name in names)


@pytest.mark.parametrize(
    ("name", "weights", "normalized"),
    [
        ("resnet18", 11_689_512, 4_800),
        ("resnet34", 21_797_672, 8_512),
    ],
)
def test_basic_resnets_have_torchvision_s_weights(name: str, weights: int, normalized: int) -> None:
    """But for the head, one projection more, and the moving statistics that Keras counts."""
    network = MODELS.build(name, (64, 64, 3), 7)
    below = weights - (512 * 1000 + 1000)
    projection = 64 * 64 + 2 * 64
    assert network.backbone.count_params() == below + projection + 2 * (normalized + 64)


@pytest.mark.parametrize("name", ["resnet50", pytest.param("resnet101", marks=pytest.mark.slow)])
def test_bottleneck_resnets_have_the_weights_of_keras(name: str) -> None:
    """But for the biases of convolutions, which are followed by a normalization."""
    network = MODELS.build(name, (64, 64, 3), 7)
    peer = BOTTLENECKS[name](include_top=False, weights=None)
    biases = sum(layer.filters for layer in peer.layers if isinstance(layer, keras.layers.Conv2D))
    assert network.backbone.count_params() == peer.count_params() - biases


def test_resnet50_computes_what_keras_does() -> None:
    """From the first pooling on: the two differ in how conv1 and the pooling are padded."""
    network = MODELS.build("resnet50", (64, 64, 3), 7)
    peer = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(64, 64, 3))
    depths = (3, 4, 6, 3)
    parts = {"1": "1", "2": "2", "3": "3", "shortcut": "0"}
    for stage, depth in enumerate(depths, 2):
        for index in range(depth):
            for part, theirs in parts.items():
                if part == "shortcut" and index:
                    continue
                label = f"conv{stage}{'abcdef'[index]}_{part}"
                block = f"conv{stage}_block{index + 1}_{theirs}"
                kernel = network.backbone.get_layer(label).get_weights()[0]
                peer.get_layer(f"{block}_conv").set_weights([kernel, np.zeros(kernel.shape[-1])])
    pooled = crops(2, 16, 16, 64)
    ours = network.backbone
    found = keras.Model(ours.get_layer("pool1").output, ours.get_layer("conv5c").output)(pooled)
    truth = keras.Model(peer.get_layer("pool1_pool").output, peer.output)(pooled)
    np.testing.assert_allclose(found, truth, rtol=1e-3, atol=1e-4)
    assert np.std(truth) > 0.1


@pytest.mark.parametrize(
    ("name", "peer", "layer"),
    [
        ("vgg16", keras.applications.VGG16, "block5_pool"),
        ("resnet50v2", keras.applications.ResNet50V2, "post_relu"),
    ],
)
def test_layers_have_the_names_and_weights_of_keras(name: str, peer: Any, layer: str) -> None:
    network = MODELS.build(name, (48, 48, 2), 7)
    other = peer(include_top=False, weights=None, input_tensor=keras.Input((48, 48, 2)))
    disturb(other)
    part = keras.Model(network.backbone.input, network.backbone.get_layer(layer).output)
    assert copy_weights(other, part) == sum(1 for found in other.layers if found.weights)
    images = crops(2, 48, 48, 2)
    np.testing.assert_allclose(part(images), other([images]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "mode", "channels"), [("vgg16", "caffe", 3), ("resnet50v2", "tf", 5)]
)
def test_the_range_of_imagenet(name: str, mode: str, channels: int) -> None:
    """What the first convolution sees is what keras.applications makes of grey levels."""
    network = MODELS.build(name, (32, 32, channels), 7, params={"imagenet_range": True})
    found = keras.Model(network.backbone.input, network.backbone.get_layer("range").output)
    images = crops(2, 32, 32, channels)
    module = {"caffe": keras.applications.vgg16, "tf": keras.applications.resnet_v2}[mode]
    # In Keras's order red comes first, and is turned round for vgg16.
    given = images[..., ::-1] if mode == "caffe" else images
    truth = module.preprocess_input(255 * given.copy())
    np.testing.assert_allclose(found(images), truth, rtol=1e-5, atol=1e-4)
    assert network.pretrained is not None
    assert network.pretrained.endswith(f"/{name}_weights_tf_dim_ordering_tf_kernels_notop.h5")


def test_vgg_head() -> None:
    network = MODELS.build("vgg11", (128, 128, 5), 7, params={"dense": 4096})
    sizes = dict(network.layers())
    assert (sizes["block5_pool"], sizes["pool5"], sizes["fc6"], sizes["fc7"]) == (
        512,
        512,
        4096,
        4096,
    )
    # Torchvision's VGG11 has 132,863,336 weights, of which 123,642,856 are of its three dense
    # layers; two channels more, in 64 filters of 3 × 3.
    convolutions = 132_863_336 - 123_642_856 + 2 * 9 * 64
    dense = 513 * 4096 + 4097 * 4096
    assert network.backbone.count_params() == convolutions + dense


def test_autoencoder() -> None:
    network = MODELS.build(
        "autoencoder", (48, 48, 2), 7, params={"conv_blocks": 3, "feature_dim": 5, "filters": 4}
    )
    assert network.layers()[-1] == ("encoded", 5)
    assert network.train.output_shape == (None, 48, 48, 2)
    # Nothing but the five numbers of `encoded` reaches the output.
    assert network.train.get_layer("decoded").kernel.shape == (5, 6 * 6 * 16)
    with pytest.raises(PluginError, match=r"50 pixels cannot be halved 4 times; set crops"):
        MODELS.build("autoencoder", (50, 50, 2), 7)


@pytest.fixture
def channelwise() -> tuple[Network, Network]:
    """A network for three channels, and the wrapper around it with the same weights."""
    params = {"backbone": "resnet18"}
    wrapped = MODELS.build("repeat_channels", (32, 32, 3), 4, params=params)
    alone = MODELS.build("resnet18", (32, 32, 3), 4)
    weights = {weight.path: np.asarray(weight) for weight in wrapped.backbone.weights}
    assert list(weights) == [weight.path for weight in alone.backbone.weights]
    for weight in alone.backbone.weights:
        weight.assign(weights[weight.path])
    return wrapped, alone


def test_each_channel_goes_through_the_same_network(channelwise: tuple[Network, Network]) -> None:
    wrapped, alone = channelwise
    images = crops(4, 32, 32, 3)
    layers = ["pool5", "conv3a"]
    found = np.asarray(wrapped.features(layers)(images))
    sizes = dict(alone.layers())
    assert dict(wrapped.layers()) == {n: 3 * s for n, s in sizes.items()} | {"features": 1536}
    truth = {
        (layer, channel): np.asarray(
            alone.features([layer])(np.repeat(images[..., channel : channel + 1], 3, axis=-1))
        )
        for layer in layers
        for channel in range(3)
    }
    joined = np.concatenate([truth[layer, c] for layer in layers for c in range(3)], axis=1)
    np.testing.assert_allclose(found, joined, rtol=1e-4, atol=1e-5)
    names = wrapped.feature_names(layers, CHANNELS)
    assert names[:2] == ["pool5_DNA_0", "pool5_DNA_1"]
    assert names[512] == "pool5_ER_0"
    assert names[-1] == "conv3a_AGP_127"
    assert len(names) == found.shape[1]


def test_a_blank_channel_changes_its_own_features(channelwise: tuple[Network, Network]) -> None:
    """Features of the other channels are the same bit for bit."""
    network, _ = channelwise
    function = feature_function(network, ["conv2a", "features"], "min-max")
    images = crops(4, 32, 32, 3) * 1000
    before = np.asarray(function(images))
    images[..., 2] = 0
    changed = (np.asarray(function(images)) != before).any(axis=0)
    names = network.feature_names(["conv2a", "features"], CHANNELS)
    assert {name.split("_")[1] for name, new in zip(names, changed, strict=True) if new} == {"AGP"}
    assert changed.sum() > 400


def test_a_blank_channel_of_one_site(tmp_path: Any) -> None:
    """Through the command line."""
    base = use_small_network(BaseProject(tmp_path))
    base.config["train"]["model"] = {"name": "repeat_channels", "params": {"backbone": "small"}}
    base.config["prepare"] = {"illumination": False}
    base.write()
    try:
        answer = command(tmp_path, "profile")
        assert answer.code == 0, answer.text
        before = read_well(base.well_file()).features
        path = base.image(channel="AGP")
        tifffile.imwrite(path, np.zeros((256, 256), np.uint16))
        base.well_file().unlink()
        answer = command(tmp_path, "profile")
        assert answer.code == 0, answer.text
        after = read_well(base.well_file()).features
    finally:
        discover(None)
    names = read_provenance(base.well_file()).names
    assert names == tuple(f"relu_{channel}_{i}" for channel in CHANNELS for i in range(3))
    assert before.shape == (10, 9)
    # Five cells of the blank site, then five of the other.
    np.testing.assert_allclose(after[:, :6], before[:, :6], rtol=1e-5)
    np.testing.assert_allclose(after[5:], before[5:], rtol=1e-5)
    assert (np.abs(after[:5, 6:] - before[:5, 6:]).max(axis=1) > 1e-3).all()


def test_weights_for_colour_images_fit_each_channel(tmp_path: Any) -> None:
    """A file as that of ImageNet: three channels, no head."""
    peer = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    keras2_file.randomize(peer)
    path = keras2_file.write(tmp_path / "vgg16_notop.h5", keras2_file.weights_of(peer))
    network = MODELS.build("repeat_channels", (32, 32, 2), 4, params={"backbone": "vgg16"})
    assert network.pretrained is not None
    assert load(path, network, names=lambda names: {}, repeat_filters=True).layers == 13
    images = crops(3, 32, 32, 2)
    found = np.asarray(network.features(["block5_pool"])(images))
    for channel in range(2):
        truth = peer(np.repeat(images[..., channel : channel + 1], 3, axis=-1))
        part = found[:, 512 * channel : 512 * (channel + 1)]
        np.testing.assert_allclose(part, np.mean(truth, axis=(1, 2)), rtol=1e-4, atol=1e-6)


def test_what_cannot_be_repeated() -> None:
    with pytest.raises(PluginError, match="the backbone `autoencoder` must learn labels"):
        MODELS.build("repeat_channels", (32, 32, 2), 4, params={"backbone": "autoencoder"})
    with pytest.raises(PluginError, match="no model `resnet81`; nearest is `resnet18`"):
        MODELS.build("repeat_channels", (32, 32, 2), 4, params={"backbone": "resnet81"})
