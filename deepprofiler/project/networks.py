"""Networks and their weights, as the configuration describes them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from deepprofiler.config import original_layers
from deepprofiler.config.original import RULE_TAKEN
from deepprofiler.errors import ConfigError, DataError
from deepprofiler.files import replacing
from deepprofiler.learning import checkpoint, keras_weights
from deepprofiler.learning.checkpoint import Description
from deepprofiler.learning.devices import precision, set_seed
from deepprofiler.learning.extract import feature_function
from deepprofiler.learning.keras_weights import fetch
from deepprofiler.learning.learning_settings import Precision, Train
from deepprofiler.learning.metrics import stops_early
from deepprofiler.learning.network import Network, require_network
from deepprofiler.parameters import Decides, deciding
from deepprofiler.project import Project
from deepprofiler.project.freshness import digest_of, versions
from deepprofiler.project.outcome import LOG
from deepprofiler.registry import CROP_GENERATORS, MODELS

IMAGENET = "imagenet"
RANDOM = "random"
#: Checkpoints that training writes; every other one is a file, or weights without training.
TRAINED = ("last", "best")
_CHOICES = "train.weights is none, a weight file, or, for models that were trained on it, imagenet"


@dataclass(frozen=True)
class Weights:
    """A network that computes features.

    Attributes
    ----------
    function : callable
        (B, S, S, C) float32 crops to (B, D) float32 features.
    names : tuple of str
        D feature names.
    layers : dict
        Layer name to its [first, last + 1] columns.
    channels : tuple of str
    name, digest : str
        Name of the weights and the hash of their values.
    seed : int
        The seed that the weights were made with.
    trained : bool
        False for random weights.
    warning : str
        Why other weights may be better.
    """

    function: Callable[[Any], Any]
    names: tuple[str, ...]
    layers: dict[str, list[int]]
    channels: tuple[str, ...]
    name: str
    digest: str
    seed: int
    trained: bool = True
    warning: str = ""


@dataclass(frozen=True)
class InitialWeights:
    """The weights that training begins with.

    Attributes
    ----------
    name : str
        As ``train.weights`` names them.
    digest : str
        Hash of their values.
    layers : int, optional
        Number of layers that were loaded; None for a checkpoint, whose backbone is loaded whole.
    not_loaded : tuple of str
        Layers that the file does not have.
    """

    name: str
    digest: str
    layers: int | None = None
    not_loaded: tuple[str, ...] = ()


def find_plugins(project: Project) -> None:
    """Load models and crop generators."""
    project.load_plugins(MODELS, CROP_GENERATORS)


def build_network(project: Project, classes: int, compute: Precision = "float32") -> Network:
    """Build the configured model for the project's channels and input size.

    Plugins must have been loaded before (:func:`find_plugins`), once in each command, since this
    executes them.

    Parameters
    ----------
    project : Project
    classes : int
        Number of classes K.
    compute : str
        Precision of its computations; the same weights fit any.
    """
    size = project.config.crops.input_size
    model = project.config.train.model
    shape = (size, size, len(project.index.channels))
    with precision(compute):
        network = MODELS.build(model.name, shape, classes, params=model.params)
    return require_network(network, model.name, shape, classes)


def description(project: Project, *also: Decides) -> Description:
    """Describe what weights belong to: channels, and the settings that decide weights.

    Parameters
    ----------
    project : Project
    *also : Decides
        Settings that decide any of these outputs are added.
    """
    settings = deciding(project.config, Decides.WEIGHTS, *also)
    # In place of the configured channels, which may be left to the index.
    settings.pop("dataset.channels", None)
    return Description(channels=project.index.channels, settings=settings)


def require_weight_file(project: Project) -> None:
    """Refuse a weight file that ``profile.checkpoint`` names and that does not exist.

    Raises
    ------
    ConfigError
        It says what else can be named.
    """
    name = project.config.profile.checkpoint
    path = project.checkpoint_path(name)
    if name in (*TRAINED, IMAGENET, RANDOM) or path.exists():
        return
    numbered = re.fullmatch(r"checkpoint_(\d+)\.hdf5", name)
    hint = (
        ""
        if numbered is None
        else f"; the original calls its weights of epoch {int(numbered[1])} so: copy that file "
        "there, or, to use what `train` trains here, set profile.checkpoint to last"
    )
    raise ConfigError(
        f"profile.checkpoint: {path} does not exist; it is last, best, imagenet, random, or "
        f"the name of a file in that folder{hint}"
    )


def trained_weights(project: Project, name: str) -> Weights:
    """Load a checkpoint, or a weight file of Keras 2, with any number of classes.

    Parameters
    ----------
    project : Project
    name : str
        Value of ``profile.checkpoint``.

    Raises
    ------
    ConfigError
        The file does not exist.
    DataError
        It was trained on other channels or crops, or does not fit the model.
    """
    find_plugins(project)
    path = project.checkpoint_path(name)
    require_weight_file(project)
    if name == IMAGENET or keras_weights.is_keras2(path):
        return _keras2_weights(project, name, path)
    state = checkpoint.read(path)
    checkpoint.require(path, state.description, description(project))
    classes = state.description.classes
    if not classes:
        raise DataError(
            f"{path} does not name its classes; train again, or use another experiment (--exp NAME)"
        )
    network = build_network(project, len(classes))
    checkpoint.load(path, network)
    seed = state.description.seed
    if seed is None:
        seed = project.config.dataset.seed
    warning = _unfinished(project, name, state.epoch)
    return _weights(project, network, path.stem, checkpoint.digest(path), seed, warning)


def _keras2_weights(project: Project, name: str, path: Path) -> Weights:
    """Load a file that does not say which channels and crops it was trained on."""
    network = build_network(project, classes=2)
    if name == IMAGENET:
        loaded = _load_imagenet(network, project)
    else:
        loaded = keras_weights.load(path, network, names=original_layers.layer_names)
    used = {layer.name for layer in network.features(project.config.profile.layers).layers}
    missing = [layer for layer in loaded.not_loaded if layer in used]
    if missing:
        raise DataError(
            f"{path.name} has no weights for {', '.join(missing)}, which profile.layers needs"
        )
    warning = ""
    crops = project.config.crops
    if name != IMAGENET and "rescale" not in crops.model_fields_set:
        warning = (
            f"warning: {path.name} does not say how its crops were scaled; {RULE_TAKEN}: set "
            "crops.rescale to be sure"
        )
    LOG.info("loaded all %d layers of %s", loaded.layers, name)
    seed = project.config.dataset.seed
    return _weights(project, network, Path(name).stem, loaded.digest, seed, warning)


def load_initial_weights(project: Project, network: Network) -> InitialWeights | None:
    """Load the weights that ``train.weights`` names, which training begins with.

    Returns
    -------
    InitialWeights or None
        None where training begins with random weights.

    Raises
    ------
    ConfigError
        There are no such weights.
    DataError
        They do not fit.
    """
    name = project.config.train.weights
    if name == "none":
        return None
    path = project.named_path(name)
    if name == IMAGENET:
        loaded = _load_imagenet(network, project)
    elif keras_weights.is_keras2(path):
        loaded = keras_weights.load(path, network, names=original_layers.layer_names)
    else:
        if not path.exists():
            raise ConfigError(f"train.weights: {path} does not exist; {_CHOICES}")
        channels = Description(channels=project.index.channels)
        checkpoint.require(path, checkpoint.read(path).description, channels)
        checkpoint.load_backbone(path, network)
        return InitialWeights(name, checkpoint.digest(path))
    return InitialWeights(name, loaded.digest, loaded.layers, loaded.not_loaded)


def _load_imagenet(network: Network, project: Project) -> keras_weights.LoadedWeights:
    if network.pretrained is None:
        model = project.config.train.model.name
        raise ConfigError(f"there are no weights of ImageNet for the model `{model}`; {_CHOICES}")
    path = fetch(network.pretrained)
    return keras_weights.load(path, network, names=original_layers.layer_names, repeat_filters=True)


def _unfinished(project: Project, name: str, epoch: int) -> str:
    """Warn where ``last`` or ``best`` are weights of a training that is not finished."""
    path = project.checkpoint_path("last")
    if name not in TRAINED or not path.exists():
        return ""
    state = checkpoint.read(path)
    epochs, stopping = project.config.train.epochs, project.config.train.early_stopping
    if state.epoch >= epochs or stops_early(state.history, stopping):
        return ""
    best = f"epoch {epoch}, the best of the first {state.epoch} of {epochs}"
    weights = best if name == "best" else f"epoch {epoch} of {epochs}"
    return f"warning: weights are of {weights}; `train` continues"


def random_weights(project: Project, seed: int) -> Weights:
    """Build the network with random weights."""
    find_plugins(project)
    set_seed(seed)
    network = build_network(project, classes=2)
    belongs_to = description(project)
    digest = digest_of([seed, belongs_to.channels, belongs_to.settings, version("keras")])
    weights = _weights(project, network, f"random-{seed}", digest, seed)
    return replace(weights, trained=False)


def _weights(
    project: Project, network: Network, name: str, digest: str, seed: int, warning: str = ""
) -> Weights:
    layers, crops = project.config.profile.layers, project.config.crops
    channels = project.index.channels
    return Weights(
        function=feature_function(network, layers, crops.rescale, crops.size),
        names=tuple(network.feature_names(layers, channels)),
        layers={layer: list(ends) for layer, ends in network.columns(layers).items()},
        channels=channels,
        name=name,
        digest=digest,
        seed=seed,
        warning=warning,
    )


def write_config(project: Project, seed: int, *, keep_training: bool = False) -> None:
    """Write the resolved config, with the seed that was used and the versions of packages.

    Parameters
    ----------
    project : Project
    seed : int
        The seed that the weights were made with.
    keep_training : bool
        Keep the section ``train`` as training wrote it: it describes how the weights were made.
    """
    path = project.experiment_config_path
    changed: dict[str, Any] = {
        "dataset": project.config.dataset.model_copy(update={"seed": seed}),
    }
    if keep_training and path.exists():
        try:
            written = yaml.safe_load(path.read_text(encoding="utf-8"))
            changed["train"] = Train.model_validate(written["train"])
        except (ValueError, KeyError, TypeError, yaml.YAMLError) as error:
            raise DataError(
                f"{path} does not say how the weights were trained: {error}; restore it, or "
                "remove it to write the present settings"
            ) from None
    config = project.config.model_copy(update=changed)
    listing = ", ".join(f"{name} {number}" for name, number in versions().items())
    with replacing(path) as temporary:
        temporary.write_text(f"# {listing}\n{config.to_yaml()}", encoding="utf-8")
