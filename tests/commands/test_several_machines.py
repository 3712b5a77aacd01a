"""Several machines train one network: two processes that TF_CONFIG brings together."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from base_plugin import use_small_network
from base_project import BaseProject
from command import command

ROOT = Path(__file__).resolve().parents[2]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start(root: Path, ports: list[int], index: int) -> subprocess.Popen[str]:
    """Start ``train`` as one of several machines that see the same folder."""
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
    environment = {
        **os.environ,
        "TF_CONFIG": json.dumps(task),
        "CUDA_VISIBLE_DEVICES": "-1",
        "PYTHONPATH": str(ROOT),
    }
    words = ["-m", "deepprofiler", "--root", str(root), "--cores", "1", "train"]
    return subprocess.Popen(
        [sys.executable, *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def weights(root: Path) -> dict[str, np.ndarray]:
    with h5py.File(root / "outputs/results/checkpoint/last.h5") as file:
        return {item.attrs["name"]: item[()] for item in file["weights"].values()}


def test_two_processes_are_as_one(tmp_path):
    """From images on, with augmentation and batch normalization; only the first one writes."""
    base = use_small_network(BaseProject(tmp_path / "one", sites=("1",)))
    plugin = base.root / "plugins/models/small.py"
    line = '    x = keras.layers.ReLU(name="relu")(x)\n'
    text = plugin.read_text()
    assert line in text
    plugin.write_text(
        text.replace(line, f'    x = keras.layers.BatchNormalization(name="bn")(x)\n{line}')
    )
    base.config["prepare"] = {"illumination": False}
    base.config["train"] |= {
        "epochs": 2,
        "steps": 3,
        "schedule": {"name": "plateau", "patience": 1},
        "augment": {"shift": 2},
        "validation": {"by": "cells", "fraction": 0.3},
    }
    base.write()
    two = tmp_path / "two"
    shutil.copytree(base.root, two)

    ports = free_ports(2)
    processes = [start(two, ports, index) for index in (1, 0)]
    answer = command(base.root, "--cores", "1", "train")
    assert answer.code == 0, answer.text
    worker, chief = (process.communicate(timeout=300)[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0], f"{chief}\n{worker}"

    expected, found = weights(base.root), weights(two)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-5, err_msg=name)
    histories = [
        pd.read_csv(root / "outputs/results/logs/history.csv") for root in (base.root, two)
    ]
    figures = ["loss", "accuracy", "val_loss", "val_macro_f1", "learning_rate", "flat_crops"]
    np.testing.assert_allclose(histories[0][figures], histories[1][figures], atol=1e-5)
    assert "2 epochs to" in chief
    assert "epoch 2 of 2" in chief
    assert "epoch(s) to" not in worker
    assert "epoch 2 of 2" not in worker
