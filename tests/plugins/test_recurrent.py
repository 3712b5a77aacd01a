"""The recurrent model: its backbone is what is kept, and T is free."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deepprofiler.errors import PluginError
from deepprofiler.learning import checkpoint
from deepprofiler.learning.checkpoint import Checkpoint
from deepprofiler.learning.network import Network
from deepprofiler.registry import MODELS, discover

SHAPE = (32, 32, 2)


@pytest.fixture(scope="module")
def network() -> Network:
    discover()
    return MODELS.build("recurrent", SHAPE, 5)


def test_the_features_are_those_of_the_backbone_alone(network: Network) -> None:
    plain = MODELS.build("resnet18", SHAPE, 7)
    assert network.layers() == plain.layers()
    assert not any("gru" in name for name, _ in network.layers())
    assert not network.per_channel
    plain.backbone.set_weights(network.backbone.get_weights())
    crops = np.random.default_rng(0).random((4, *SHAPE), dtype=np.float32)
    np.testing.assert_array_equal(
        network.features(["conv4a"])(crops), plain.features(["conv4a"])(crops)
    )


def test_the_gru_has_the_papers_size(network: Network) -> None:
    """Three gates of 256 units over 512 features, with the two biases of Keras's GRU."""
    gru = network.train.get_layer("gru")
    assert gru.count_params() == 3 * (256 * (512 + 256) + 2 * 256)


def test_each_cell_passes_the_encoder_by_itself(network: Network) -> None:
    crops = np.random.default_rng(1).random((3, 4, *SHAPE), dtype=np.float32)
    each = network.train.get_layer("each_cell")
    vectors = np.asarray(each(crops))
    assert vectors.shape == (3, 4, 512)
    for t in range(4):
        alone = np.asarray(network.features(["pool5"])(crops[:, t]))
        np.testing.assert_allclose(vectors[:, t], alone, rtol=1e-4, atol=1e-4)


def test_the_order_of_cells_matters_to_the_gru_only(network: Network) -> None:
    crops = np.random.default_rng(2).random((2, 3, *SHAPE), dtype=np.float32)
    forward, backward = network.train(crops), network.train(crops[:, ::-1])
    assert np.abs(np.asarray(forward) - np.asarray(backward)).max() > 1e-4


def test_a_file_of_five_cells_loads_for_eight(network: Network, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    network.train(rng.random((1, 5, *SHAPE), dtype=np.float32))
    path = tmp_path / "last.h5"
    checkpoint.save(path, Checkpoint(1), network)
    other = MODELS.build("recurrent", SHAPE, 5)
    checkpoint.load(path, other)
    crops = rng.random((2, 8, *SHAPE), dtype=np.float32)
    np.testing.assert_array_equal(network.train(crops), other.train(crops))


def test_any_backbone_can_be_under_it() -> None:
    network = MODELS.build(
        "recurrent", (64, 64, 3), 4, params={"backbone": "resnet34", "units": 16}
    )
    assert network.train.get_layer("gru").units == 16
    assert network.layers() == MODELS.build("resnet34", (64, 64, 3), 4).layers()
    with pytest.raises(PluginError, match="there is no model `resnet19`; nearest is"):
        MODELS.build("recurrent", SHAPE, 5, params={"backbone": "resnet19"})
    with pytest.raises(PluginError, match="does not learn labels"):
        MODELS.build("recurrent", SHAPE, 5, params={"backbone": "autoencoder"})
