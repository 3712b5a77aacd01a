"""Names of layers in the original DeepProfiler's weight files, and in those of keras.applications.

Its networks of keras.applications keep their names here. Its earlier ones are of keras-resnet,
whose names are translated.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: The numbers that keras-resnet gives the convolutions of a block.
_BRANCHES = {"1": "shortcut", "2a": "1", "2b": "2", "2c": "3"}
_STEM = {"conv1": "conv1", "bn_conv1": "conv1_bn"}
#: Kinds of layers that keras.applications leaves to be numbered by Keras.
_NUMBERED = ("conv2d", "batch_normalization")
#: Statistics of ImageNet that EfficientNet of keras.applications keeps as weights.
_NO_WEIGHTS_HERE = ("normalization",)


def layer_names(names: Sequence[str]) -> dict[str, str | None]:
    """Give the names here of a file's layers.

    Parameters
    ----------
    names : sequence of str
        All layers of a file that have weights.

    Returns
    -------
    dict
        Names that differ; None for names that no network here has. Automatic names are
        counted from the file's own first layer of that kind.
    """
    renamed: dict[str, str | None] = dict.fromkeys(_NO_WEIGHTS_HERE)
    # DenseNet's ``conv1/conv``: Keras 3 allows no slash in a name, and writes ``conv1_conv``.
    renamed |= {name: name.replace("/", "_") for name in names if "/" in name}
    if "bn_conv1" in names:
        renamed |= {name: _of_keras_resnet(name) for name in names}
    for kind in _NUMBERED:
        matches = [re.fullmatch(rf"{kind}(?:_(\d+))?", name) for name in names]
        numbers = sorted((int(match[1] or 0), match[0]) for match in matches if match)
        renamed |= {name: f"{kind}_{i}" if i else kind for i, (_, name) in enumerate(numbers)}
    return {name: new for name, new in renamed.items() if name in names}


def feature_layer(name: str) -> str:
    """Give the name here of a layer that features were taken from."""
    match = re.fullmatch(r"res([2-5])([a-z]|b\d+)_relu", name)
    return f"conv{match[1]}{_letter(match[2])}" if match else name


def _of_keras_resnet(name: str) -> str:
    match = re.fullmatch(r"(res|bn)([2-5])([a-z]|b\d+)_branch(1|2[abc])", name)
    if not match:
        return _STEM.get(name, name)
    kind, stage, block, branch = match.groups()
    new = f"conv{stage}{_letter(block)}_{_BRANCHES[branch]}"
    return f"{new}_bn" if kind == "bn" else new


def _letter(block: str) -> str:
    """Letter of a block, which larger networks count: ``b1`` is the second, ``b``."""
    return chr(ord("a") + int(block[1:])) if len(block) > 1 else block
