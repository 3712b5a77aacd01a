"""Devices: which ones TensorFlow uses, in which precision, and how several train one network.

With several GPUs or machines each device computes its share of every batch; gradients and the
statistics of batch normalization are those of the whole batch, so that training is that of one
device but for rounding.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from deepprofiler.errors import ConfigError, counted
from deepprofiler.learning.learning_settings import Precision
from deepprofiler.parallel import usable_cores

if TYPE_CHECKING:
    from deepprofiler.learning.network import Network


@contextmanager
def _silent() -> Iterator[None]:
    """Discard what C++ writes to the standard error; Python's exceptions still pass."""
    sys.stderr.flush()
    try:
        standard_error = os.dup(2)
    except OSError:  # The process has no standard error.
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(standard_error, 2)
        os.close(standard_error)


# While it is imported, TensorFlow prints messages whatever TF_CPP_MIN_LOG_LEVEL says. The command
# line imports this module before all others that need TensorFlow.
with _silent():
    import keras
    import tensorflow as tf


def describe() -> str:
    """Describe the device in one line, for the log."""
    devices = tf.config.get_visible_devices("GPU")
    versions = f"TensorFlow {tf.__version__}, Keras {keras.__version__}"
    if not devices:
        cores = tf.config.threading.get_intra_op_parallelism_threads() or usable_cores()
        return f"CPU, {counted(cores, 'core', 'cores')}; {versions}"
    names = [
        tf.config.experimental.get_device_details(device).get("device_name", device.name)
        for device in devices
    ]
    return f"GPU, {', '.join(names)}; {versions}"


def choose(gpu: str | int | None, cores: int = 0) -> str:
    """Choose what TensorFlow runs on, before any of its operations.

    Parameters
    ----------
    gpu : str or int, optional
        Number of the only GPU to use; -1: none; None: all.
    cores : int
        Largest number of processor cores; 0: all that this process may use.

    Returns
    -------
    str
        See :func:`describe`.

    Raises
    ------
    ConfigError
        The GPU does not exist.
    """
    devices = tf.config.list_physical_devices("GPU")
    if str(gpu) == "-1":
        devices = []
    elif gpu is not None:
        if str(gpu) not in map(str, range(len(devices))):
            gpus = f"GPUs 0 to {len(devices) - 1}" if devices else "no GPU that TensorFlow can use"
            raise ConfigError(f"--gpu {gpu}: this machine has {gpus}; leave --gpu out")
        devices = [devices[int(gpu)]]
    # TensorFlow by itself knows of no quota.
    cores = cores or usable_cores()
    # TensorFlow refuses any change once it runs: within one process the first choice holds.
    with suppress(RuntimeError):
        tf.config.set_visible_devices(devices, "GPU")
        for device in devices:
            tf.config.experimental.set_memory_growth(device, True)
        tf.config.threading.set_intra_op_parallelism_threads(cores)
        tf.config.threading.set_inter_op_parallelism_threads(cores)
    return describe()


def set_seed(seed: int) -> None:
    """Seed the initial weights of the networks built next, and make a GPU deterministic.

    On a GPU several operations sum in an order that changes from run to run; they are replaced
    by slower, deterministic ones.
    """
    keras.utils.set_random_seed(seed)
    if tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()


@contextmanager
def precision(name: Precision) -> Iterator[None]:
    """Build networks that compute in ``name``; their weights are float32 in any case.

    Only what is built inside is concerned. A network takes float32 crops, which are rescaled, and
    rounds them itself.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name if name == "float32" else f"mixed_{name}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextmanager
def enough_memory(key: str, size: int) -> Iterator[None]:
    """Raise a ConfigError where the memory of a device is full.

    Parameters
    ----------
    key : str
        The setting that gives the size of a batch.
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


def make_strategy(devices: int | Literal["all"]) -> tf.distribute.Strategy:
    """Choose the devices to train on, before any of TensorFlow's operations.

    Where the environment variable ``TF_CONFIG`` is set, the machines that it names train together.

    Parameters
    ----------
    devices : int or "all"
        Number of GPUs of this machine, from the first; without a GPU, 1 and "all" are the
        processor.

    Returns
    -------
    tf.distribute.Strategy

    Raises
    ------
    ConfigError
        There are fewer GPUs, or ``TF_CONFIG`` is not what TensorFlow expects.
    """
    gpus = tf.config.get_visible_devices("GPU")
    count = max(1, len(gpus)) if devices == "all" else devices
    if count > max(1, len(gpus)):
        raise ConfigError(
            f"train.devices: {count}, but TensorFlow can use {len(gpus)} GPU(s) here; give a "
            "smaller number, or `all`"
        )
    if "TF_CONFIG" in os.environ:
        _require_cluster(os.environ["TF_CONFIG"])
        # TensorFlow refuses any change once it runs: within one process the first choice holds.
        with suppress(RuntimeError):
            tf.config.set_visible_devices(gpus[:count], "GPU")
        return tf.distribute.MultiWorkerMirroredStrategy()
    if count > 1:
        return tf.distribute.MirroredStrategy([f"GPU:{number}" for number in range(count)])
    return tf.distribute.get_strategy()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Tell whether this machine writes files: it is the first of several, or the only one."""
    return _rank(strategy) == 0


def from_chief(strategy: tf.distribute.Strategy, values: np.ndarray) -> np.ndarray:
    """Return the chief's numbers on every machine; each waits here for all the others.

    Parameters
    ----------
    strategy : tf.distribute.Strategy
    values : numpy.ndarray
        Of the same shape and dtype on every machine.
    """
    if strategy.cluster_resolver is None:
        return values

    # An argument: a graph cannot hold a constant of 2 GB.
    @tf.function(autograph=False)
    def share(own: Any) -> Any:
        return strategy.run(only_first, args=(own,))

    def only_first(own: Any) -> Any:
        context = tf.distribute.get_replica_context()
        first = tf.equal(context.replica_id_in_sync_group, 0)
        summand = tf.where(first, own, tf.zeros_like(own))
        return context.all_reduce(tf.distribute.ReduceOp.SUM, summand)

    shared = strategy.experimental_local_results(share(tf.constant(values)))[0]
    return np.asarray(shared.numpy())


def wait(strategy: tf.distribute.Strategy) -> None:
    """Wait until all machines have come to this line."""
    from_chief(strategy, np.zeros(1))


def own_share(batch: Any) -> Any:
    """Return a replica's part of the tensor of a whole batch, in order of the replicas."""
    context = tf.distribute.get_replica_context()
    count = context.num_replicas_in_sync
    if count == 1:
        return batch
    size = batch.shape[0] // count
    first = context.replica_id_in_sync_group * size
    # Only the share travels to a GPU.
    with tf.device("CPU:0"):
        return tf.slice(batch, [first, *[0] * (len(batch.shape) - 1)], [size, *batch.shape[1:]])


def require_equal_shares(strategy: tf.distribute.Strategy, batch_size: int) -> None:
    """Raise ConfigError unless a batch can be divided into equal shares."""
    count = strategy.num_replicas_in_sync
    if batch_size % count:
        raise ConfigError(
            f"train.batch_size: {batch_size} examples cannot be divided among {count} devices; "
            f"use a multiple of {count}"
        )


def synchronize(network: Network) -> None:
    """Compute the statistics of batch normalization on whole batches, not each device's share."""
    for layer in network.train._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def set_seeds(network: Network, strategy: tf.distribute.Strategy, *key: int) -> None:
    """Seed the random layers from some numbers, such as dropout; each device differently."""
    for place, number in enumerate(_replicas(strategy)):

        def on_device(state: Any, place: int = place) -> Any:
            return strategy.experimental_local_results(state.value)[place]

        network.set_seeds(*key, number, part=on_device)


def _replicas(strategy: tf.distribute.Strategy) -> list[int]:
    """Return the numbers of this machine's devices among those of all machines."""
    count = strategy.num_replicas_in_sync // _machines(strategy)
    first = _rank(strategy) * count
    return list(range(first, first + count))


def _rank(strategy: tf.distribute.Strategy) -> int:
    """Return the number of this machine; a chief comes before the workers."""
    resolver = strategy.cluster_resolver
    if resolver is None or resolver.task_type == "chief":
        return 0
    return int(resolver.task_id) + ("chief" in resolver.cluster_spec().jobs)


def _machines(strategy: tf.distribute.Strategy) -> int:
    resolver = strategy.cluster_resolver
    if resolver is None:
        return 1
    jobs = resolver.cluster_spec().as_dict()
    return sum(len(jobs.get(name, ())) for name in ("chief", "worker"))


def _require_cluster(text: str) -> None:
    """Raise ConfigError unless this is a valid value of ``TF_CONFIG``."""
    try:
        values = json.loads(text)
        task = values["task"]
        values["cluster"][task["type"]][int(task["index"])]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ConfigError(
            f"the environment variable TF_CONFIG cannot be used ({type(error).__name__}: {error}); "
            'it is like {"cluster": {"worker": ["host1:12345", "host2:12345"]}, '
            '"task": {"type": "worker", "index": 0}}'
        ) from None
