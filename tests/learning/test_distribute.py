"""Several devices of one machine train as one does; and what cannot be used is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from deepprofiler.errors import ConfigError
from deepprofiler.learning.devices import (
    from_chief,
    is_chief,
    make_strategy,
    require_equal_shares,
)

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("devices")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    script = [sys.executable, str(HERE / "several_devices.py"), str(folder)]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def compare(first: Path, second: Path, tolerance: float) -> None:
    with np.load(first) as a, np.load(second) as b:
        assert set(a) == set(b)
        for name in a:
            np.testing.assert_allclose(a[name], b[name], rtol=0, atol=tolerance)


def test_two_devices_are_as_one(trained: Path) -> None:
    """Augmentation, penalties, a schedule, weight decay and softened labels are on."""
    compare(trained / "one" / "plain.npz", trained / "two" / "plain.npz", 1e-6)


def test_batch_normalization_is_of_the_whole_batch(trained: Path) -> None:
    compare(trained / "one" / "normalized.npz", trained / "two" / "normalized.npz", 3e-5)


def test_float16_on_two_devices(trained: Path) -> None:
    compare(trained / "one" / "plain-half.npz", trained / "two" / "plain-half.npz", 1e-3)


def test_two_devices_resume_exactly(trained: Path) -> None:
    compare(trained / "whole" / "normalized.npz", trained / "parts" / "normalized.npz", 0)


def test_devices_drop_out_differently(trained: Path) -> None:
    with np.load(trained / "parts.npz") as found:
        np.testing.assert_array_equal(found["seeds_one"][0], found["seeds_two"][0])
        assert (found["seeds_two"][0] != found["seeds_two"][1]).all()


def test_all_devices_skip_a_step_that_overflows_on_one(trained: Path) -> None:
    with np.load(trained / "parts.npz") as found:
        np.testing.assert_array_equal(found["fine"], [[1, 1, 3], [1, 1, 2]])
        assert not np.isfinite(found["infinite"]).any()


def test_what_cannot_be_used_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for devices in (1, "all"):
        strategy = make_strategy(devices)  # type: ignore[arg-type]
        assert (strategy.num_replicas_in_sync, is_chief(strategy)) == (1, True)
    with pytest.raises(ConfigError, match=r"train\.devices: 64, but TensorFlow can use \d+ GPU"):
        make_strategy(64)
    for text in ("{", "{}", json.dumps({"cluster": {"worker": []}, "task": {"type": "worker"}})):
        monkeypatch.setenv("TF_CONFIG", text)
        with pytest.raises(ConfigError, match=r"TF_CONFIG cannot be used .* it is like"):
            make_strategy(1)


def test_what_is_from_chief_on_is_no_part_of_a_graph() -> None:
    """A graph cannot hold more than 2 GB, and labels may be more."""

    class Watched:
        """One device that looks like several machines."""

        cluster_resolver = "several"
        experimental_local_results = staticmethod(lambda value: [value])

        def run(self, function: Any, args: tuple[Any, ...] = ()) -> Any:
            found = tf.distribute.get_strategy().run(function, args=args)
            sizes.append(tf.compat.v1.get_default_graph().as_graph_def().ByteSize())
            return found

    sizes: list[int] = []
    values = np.random.default_rng(0).random((500, 500))
    np.testing.assert_array_equal(from_chief(Watched(), values), values)
    assert sizes[0] < 10_000 < values.nbytes


def test_shares_are_equal() -> None:
    class Three:
        num_replicas_in_sync = 3

    require_equal_shares(Three(), 12)
    with pytest.raises(ConfigError, match="32 examples cannot be divided among 3 devices"):
        require_equal_shares(Three(), 32)
