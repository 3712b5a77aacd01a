"""Trackers: stand-ins with the names that the services' own documentation gives."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import pytest
from test_fit import KilledError, kill_at, train
from tiny_screen import SETTINGS, changed, make_screen

from deepprofiler.errors import ConfigError
from deepprofiler.learning import trackers as track
from deepprofiler.learning.trackers import require_trackers, tracking

CONFIG = {"epochs": 2, "optimizer": {"name": "sgd"}}


class Logger(keras.callbacks.Callback):
    """Keeps what it is told."""

    def __init__(self, told: list[Any]) -> None:
        super().__init__()
        self.told = told

    def on_train_begin(self, logs: Any = None) -> None:
        # What the services' own callbacks ask for.
        config = self.model.optimizer.get_config()
        self.told.append(("begin", config["name"], self.params["epochs"]))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.told.append((epoch, dict(logs)))

    def on_train_end(self, logs: Any = None) -> None:
        self.told.append("end")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What stand-ins of all three packages are told."""
    told: list[Any] = []

    @contextmanager
    def run(**options: Any) -> Any:
        told.append(options)
        yield
        told.append("closed")

    class Experiment:
        def set_name(self, name: str) -> None:
            told.append({"name": name})

        def log_parameters(self, values: dict[str, Any]) -> None:
            told.append({"config": values})

        def get_callback(self, framework: str) -> Logger:
            assert framework == "keras"
            return Logger(told)

        def end(self) -> None:
            told.append("closed")

    modules = {
        "mlflow": {"start_run": run, "log_params": lambda values: told.append({"config": values})},
        "mlflow.keras": {"MlflowCallback": lambda: Logger(told)},
        "wandb": {"init": run},
        "wandb.integration": {},
        "wandb.integration.keras": {"WandbMetricsLogger": lambda: Logger(told)},
        "comet_ml": {"start": Experiment},
    }
    for name, members in modules.items():
        module = ModuleType(name)
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, module)
    return told


@pytest.mark.parametrize("name", ["mlflow", "wandb", "comet"])
def test_each_is_told_of_every_epoch(tmp_path: Path, told: list[Any], name: str) -> None:
    with tracking([name], "results", CONFIG) as callbacks:
        history = train(
            tmp_path, make_screen(), settings=changed(SETTINGS, steps=2), callbacks=callbacks
        )
    first = {key: value for part in told if isinstance(part, dict) for key, value in part.items()}
    assert first["config"] == CONFIG
    assert "results" in (first.get("name"), first.get("run_name"))
    rows = [part[1] for part in told if isinstance(part, tuple) and part[0] != "begin"]
    assert rows == [metrics.to_row() for metrics in history.epochs]
    assert [part[0] for part in told if isinstance(part, tuple)] == ["begin", 0, 1]
    assert told[-2:] == ["end", "closed"]


def test_a_run_is_closed_after_an_error(tmp_path: Path, told: list[Any]) -> None:
    with pytest.raises(KilledError), tracking(["comet"], "results", CONFIG) as callbacks:
        train(tmp_path, make_screen(), callbacks=callbacks, progress=kill_at(1, 1))
    assert told[-2:] == ["end", "closed"]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    require_trackers([])
    monkeypatch.setattr(track, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"wandb and comet_ml .*`pip install wandb comet_ml`"):
        require_trackers(["wandb", "comet"])


def test_nothing_is_tracked_unless_asked(told: list[Any]) -> None:
    with tracking([], "results", CONFIG) as callbacks:
        assert callbacks == []
    assert told == []
