"""The processor that networks run on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deepprofiler.errors import ConfigError


@contextmanager
def _silent() -> Iterator[None]:
    """Send what C++ writes to the standard error nowhere; Python's exceptions still pass."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # The process has no standard error.
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


# While it is imported, TensorFlow greets whatever TF_CPP_MIN_LOG_LEVEL says.
with _silent():
    import keras
    import tensorflow as tf


@contextmanager
def enough_memory(key: str, size: int) -> Iterator[None]:
    """Turn the error of a device whose memory is full into a ConfigError.

    Parameters
    ----------
    key : str
        What the config calls the size of a batch.
    size : int
        Its value.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        reason = str(error.message).partition("\n")[0]
        raise ConfigError(
            f"{key}: {size} is too large for the memory of {describe()}; set a smaller one, or "
            f"free memory that other programs use ({reason})"
        ) from None


def describe() -> str:
    """Name the device in one line, for the log."""
    devices = tf.config.get_visible_devices("GPU")
    versions = f"TensorFlow {tf.__version__}, Keras {keras.__version__}"
    if not devices:
        cores = tf.config.threading.get_intra_op_parallelism_threads() or _cores()
        return f"CPU, {cores} core(s); {versions}"
    names = [
        tf.config.experimental.get_device_details(device).get("device_name", device.name)
        for device in devices
    ]
    return f"GPU, {', '.join(names)}; {versions}"


def choose(gpu: str | int | None, cores: int = 0) -> str:
    """Decide what TensorFlow runs on; must come before any of its operations.

    Parameters
    ----------
    gpu : str or int, optional
        Number of the one GPU to use; -1: none; not given: all there are.
    cores : int
        At most so many processor cores; 0: all.

    Returns
    -------
    str
        See :func:`describe`.

    Raises
    ------
    ConfigError
        There is no such GPU.
    """
    devices = tf.config.list_physical_devices("GPU")
    if str(gpu) == "-1":
        devices = []
    elif gpu is not None:
        if str(gpu) not in map(str, range(len(devices))):
            found = f"GPUs 0 to {len(devices) - 1}" if devices else "no GPU that TensorFlow can use"
            raise ConfigError(f"--gpu {gpu}: this machine has {found}; leave --gpu out")
        devices = [devices[int(gpu)]]
    # TensorFlow refuses any change once it runs: within one process the first choice holds.
    with suppress(RuntimeError):
        tf.config.set_visible_devices(devices, "GPU")
        for device in devices:
            tf.config.experimental.set_memory_growth(device, True)
        tf.config.threading.set_intra_op_parallelism_threads(cores)
        tf.config.threading.set_inter_op_parallelism_threads(cores)
    return describe()


def set_seed(seed: int) -> None:
    """Decide the initial weights of the networks built next, and make a GPU repeat itself.

    On a GPU several operations sum in an order that changes from run to run; they are replaced
    by slower ones that do not.
    """
    keras.utils.set_random_seed(seed)
    if tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()


def _cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
