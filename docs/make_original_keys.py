"""Write docs/original-keys.md from the tables: ``python docs/make_original_keys.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deepprofiler.config import original
from deepprofiler.config.original import (
    EARLIER,
    HARMLESS,
    IGNORED_SECTIONS,
    REFUSED,
)

PAGE = Path(__file__).with_name("original-keys.md")

HEAD = """\
# What became of the original's config keys

<!-- Made by `python docs/make_original_keys.py`; do not edit. -->

A JSON config of the original DeepProfiler (0.1 to 0.5.1) works as it is: put it into
`inputs/config`. When it is read, the log says what became of each key. This page lists all keys. A
key that is not on this page is an error. [Coming from the original](original.md) lists the other
differences.
"""

#: A value for each key whose translation depends on the value.
SAMPLES: dict[str, Any] = {
    "train.partition.targets": ["Treatment"],
    "train.model.name": "resnet",
    "train.model.crop_generator": "sampled_crop_generator",
    "train.model.augmentations": True,
    "train.model.lr_schedule": "cosine",
    "train.model.initialization": "ImageNet",
    "train.model.pretrained": "weights.h5",
    "train.pretrained": "weights.h5",
    "train.comet_ml.track": True,
    "dataset.locations.view_size": 512,
    "dataset.locations.box_size": 128,
    "profile.use_pretrained_input_size": 224,
    "profile.feature_layer": "res4a_relu",
    "profile.checkpoint": "checkpoint_0010.hdf5",
}
#: Other keys that the translation of a key depends on.
BESIDE: dict[str, dict[str, Any]] = {
    "dataset.images.width": {"dataset.images.height": 520},
    "dataset.images.height": {"dataset.images.width": 696},
    "dataset.locations.view_size": {"dataset.locations.mode": "full_image"},
    "train.model.params.conv_blocks": {"train.model.name": "resnet"},
    "train.model.params.feature_dim": {"train.model.name": "autoencoder"},
    "train.model.params.online_lambda": {"train.model.crop_generator": "online_labels_cropgen"},
    "train.model.params.online_label_smoothing": {
        "train.model.crop_generator": "online_labels_cropgen"
    },
    "train.sampling.alpha": {"train.model.crop_generator": "mixup_crop_generator"},
}


def text() -> str:
    """Give the page as text."""
    kept, ignored, refused = [], [], []
    for key in original.known_keys():
        if key in EARLIER:
            continue
        if key in REFUSED:
            accepted = ", ".join(f"`{value}`" for value in HARMLESS[key])
            refused.append(f"| `{key}` | {REFUSED[key]} | {accepted} |\n")
            continue
        note = _note(key)
        if note.startswith("is ignored: "):
            ignored.append(f"| `{key}` | {note.removeprefix('is ignored: ')} |\n")
        else:
            example = f" (for example `{SAMPLES[key]}`)" if key in SAMPLES else ""
            kept.append(f"| `{key}`{example} | {note} |\n")
    sections = [f"| `{name}` | {why} |\n" for name, why in IGNORED_SECTIONS.items()]
    earlier = [f"| `{old}` | `{new}` |\n" for old, new in sorted(EARLIER.items())]
    return "".join(
        [
            HEAD,
            "\n## Kept or renamed\n\n| key | what became of it |\n|---|---|\n",
            *kept,
            "\n## Ignored\n\n| key | why |\n|---|---|\n",
            *ignored,
            "\nWhole sections that are ignored:\n\n| section | why |\n|---|---|\n",
            *sections,
            "\n## Refused\n\nIgnoring these keys would change the results. Only the values in the "
            "last column are accepted.\n\n| key | why | accepted values |\n|---|---|---|\n",
            *refused,
            "\n## Keys of older versions\n\nOlder versions used other names for these keys.\n\n"
            "| older | read as |\n|---|---|\n",
            *earlier,
        ]
    )


def _note(key: str) -> str:
    """Message for a key when a config has it."""
    values: dict[str, Any] = {}
    for path, value in {key: SAMPLES.get(key, 1), **BESIDE.get(key, {})}.items():
        *sections, name = path.split(".")
        inner = values
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = value
    notes = original.translate(values)[1]
    start = f"`{key}` "
    return next(note for note in notes if note.startswith(start)).removeprefix(start)


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
