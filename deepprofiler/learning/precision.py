"""The numbers that a network computes with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import keras

Precision = Literal["float32", "bfloat16", "float16"]


@contextmanager
def precision(name: Precision) -> Iterator[None]:
    """Build networks that compute in ``name``; their weights are float32 in any case.

    Only what is built inside is concerned. A network takes float32 crops and rounds them itself,
    after they were rescaled.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name if name == "float32" else f"mixed_{name}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
