"""Keys of the original DeepProfiler's configuration, 0.1 to 0.5.1: what became of each.

They are those of its handbook, its tests and its example projects. Keys that need more than another
name are in :mod:`deepprofiler.legacy_values`.
"""

import re

#: Sections and keys that only the original has; those of the first group hold a section.
SECTIONS = (
    "dataset.metadata",
    "dataset.images",
    "dataset.locations",
    "prepare.illumination_correction",
    "prepare.compression",
    "prepare.images",
    "prepare.metadata",
    "train.partition",
    "train.dset",
    "train.sampling",
    "train.queueing",
    "train.comet_ml",
    "paths",
)
KEYS = ("profile.feature_layer", "train.model.crop_generator")

#: How crops are scaled where neither a config nor a weight file of the original says it.
RULE_TAKEN = (
    "crops are scaled by `min-max`, as in the original since August 2024, and not by `legacy-0.3` "
    "(September 2021 to August 2024) or `standardize` (before that)"
)

#: Where the same thing stood in earlier versions.
EARLIER = {
    "dataset.metadata.control_id": "dataset.metadata.control_value",
    "prepare.metadata.label_field": "dataset.metadata.label_field",
    "prepare.metadata.control_id": "dataset.metadata.control_value",
    "prepare.images.channels": "dataset.images.channels",
    "prepare.images.file_format": "dataset.images.file_format",
    "prepare.images.bits": "dataset.images.bits",
    "prepare.images.width": "dataset.images.width",
    "prepare.images.height": "dataset.images.height",
    "train.dset.targets": "train.partition.targets",
    "train.dset.split_field": "train.partition.split_field",
    "train.dset.training_values": "train.partition.training",
    "train.dset.validation_values": "train.partition.validation",
    "train.dset.mask_objects": "dataset.locations.mask_objects",
    "train.partition.training_values": "train.partition.training",
    "train.partition.validation_values": "train.partition.validation",
    "train.sampling.box_size": "dataset.locations.box_size",
    "train.sampling.mask_objects": "dataset.locations.mask_objects",
    "train.sampling.queue_size": "train.sampling.cache_size",
    "train.queueing.queue_size": "train.sampling.cache_size",
    "train.queueing.loading_workers": "train.sampling.workers",
    "train.model.params.epochs": "train.model.epochs",
    "train.model.params.steps": "train.model.steps",
    "train.model.conv_blocks": "train.model.params.conv_blocks",
    "train.model.feature_dim": "train.model.params.feature_dim",
    "train.model.latent_dim": "train.model.params.latent_dim",
}

#: Keys with the same meaning under another name.
RENAMED = {
    "dataset.images.channels": "dataset.channels",
    "dataset.images.bits": "dataset.bits",
    "dataset.locations.mask_objects": "crops.mask",
    "prepare.illumination_correction.down_scale_factor": "prepare.down_scale",
    "prepare.illumination_correction.median_filter_size": "prepare.median_size",
    "train.partition.training": "train.validation.training",
    "train.partition.validation": "train.validation.values",
    "train.model.epochs": "train.epochs",
    "train.model.steps": "train.steps",
    "train.model.optimizer": "train.optimizer",
    "train.model.params.optimizer": "train.optimizer",
    "train.model.params.learning_rate": "train.learning_rate",
    "train.model.params.batch_size": "train.batch_size",
    "train.model.params.label_smoothing": "train.label_smoothing",
    "train.validation.top_k": "train.top_k",
    "profile.batch_size": "profile.batch_size",
}

REPEATING = "repeat_channel_crop_generator"
#: What its crop generators are called here.
GENERATORS = {
    "crop_generator": "single",
    "sampled_crop_generator": "single",
    "mixup_crop_generator": "mixup",
    "online_labels_cropgen": "online_labels",
    "online_labels_crop_generator": "online_labels",
    "recurrent_crop_generator": "sequence",
    "crop_set_generator": "sequence",
    "autoencoder_crop_generator": "single",
    "full_image_crop_generator": "single",
    REPEATING: "single",
}
#: Its models: ``conv_blocks`` where a config has none, and the name with it.
MODELS = {
    "resnet": (18, "resnet{}"),
    "efficientnet": (0, "efficientnet_b{}"),
    "densenet": (121, "densenet{}"),
}
#: Depths that newer releases build with keras.applications, and that keras-resnet had before.
NEWER_RESNETS = (50, 101, 152)
#: Models of keras.applications, whose crops can be scaled as they were for ImageNet.
IMAGENET_RANGE = re.compile(r"efficientnet_b\d|densenet\d+|inception_resnet_v2|resnet\d+v2|vgg16")

_FOLDERS = "a project's folders are where --root says"
_DEVICE = "choose a device with --gpu"
_STORE = "crops are read from the exported single cells, which needs no queue"
_VALIDATION = "validation shows every held-out cell once after each epoch"
OTHER_MODEL = "the model has no such parameter"

#: Keys without an effect here, and why.
IGNORED = {
    "dataset.images.file_format": "the format is read from each file",
    "dataset.locations.area_coverage": "the newest releases do not look at it",
    "dataset.locations.locations_field": "locations may be of any object",
    "prepare.outlines": "`locate --labels` writes the label images that `crops.mask` needs",
    "train.model.metrics": "accuracy, per cell and per class, is always reported",
    "train.model.checkpoint_policy": "the last and the best epoch are kept",
    "train.model.params.latent_dim": OTHER_MODEL,
    "train.model.params.epsilon_std": OTHER_MODEL,
    "train.model.params.pooling": "features are averaged over each layer's whole output",
    "train.sampling.factor": "every cell is exported; `crops.cells_per_well` limits them",
    "train.sampling.cache_size": _STORE,
    "train.sampling.workers": "choose the number of processes with --cores",
    "train.sampling.images": _STORE,
    "train.sampling.locations": _STORE,
    "train.sampling.locations_field": "locations may be of any object",
    "train.sampling.field": "cells are drawn evenly over the labels",
    "train.queueing.min_size": _STORE,
    "train.queueing.fifo_queue_size": _STORE,
    "train.queueing.random_queue_size": _STORE,
    "train.queueing.cropping_workers": _STORE,
    "train.queueing.augmentation_workers": _STORE,
    "train.validation.frequency": _VALIDATION,
    "train.validation.batch_size": "it is `train.batch_size`",
    "train.validation.frame": _VALIDATION,
    "train.validation.sample_first_crops": _VALIDATION,
    "train.validation.save_features": "`profile` writes features",
    "train.dset.width": "image sizes are read from the files",
    "train.dset.height": "image sizes are read from the files",
    "train.gpus": _DEVICE,
    "profile.gpus": _DEVICE,
    "experiment_name": "choose it with --exp",
    "num_classes": "the labels are counted",
}
#: Whole sections without an effect here, and why.
IGNORED_SECTIONS = {
    "paths": _FOLDERS,
    "train.comet_ml": "Comet takes its settings from the environment (COMET_API_KEY …)",
}

#: What cannot be had, and would give other results if it were ignored.
REFUSED = {
    "dataset.locations.mode": "it is `single_cells`, or `full_image` with a `view_size`",
    "prepare.compression.scaling_factor": "only 1 is offered: images are not made smaller",
}
#: Values of these keys that ask for nothing else than what happens anyway.
HARMLESS = {
    "dataset.locations.mode": ("single_cells", "full_image"),
    "prepare.compression.scaling_factor": (1,),
    "profile.use_pretrained_input_size": (None, False, 0),
}
