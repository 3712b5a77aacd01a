"""Trackers: services that the metrics of each epoch are sent to (MLflow, Weights & Biases, Comet).

Each is used through its own Keras callback, and configured by its own environment variables or
files, as its documentation describes. Nothing is sent unless a service is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

import keras

from deepprofiler.errors import ConfigError, install_extra


class _Start(Protocol):
    """Starts a run of a service."""

    def __call__(
        self, name: str, settings: Mapping[str, Any]
    ) -> AbstractContextManager[keras.callbacks.Callback]: ...


@contextmanager
def _mlflow(name: str, settings: Mapping[str, Any]) -> Iterator[keras.callbacks.Callback]:
    import mlflow
    from mlflow.keras import MlflowCallback

    with mlflow.start_run(run_name=name):
        mlflow.log_params(settings)
        yield MlflowCallback()


@contextmanager
def _wandb(name: str, settings: Mapping[str, Any]) -> Iterator[keras.callbacks.Callback]:
    import wandb
    from wandb.integration.keras import WandbMetricsLogger

    with wandb.init(name=name, config=dict(settings)):
        yield WandbMetricsLogger()


@contextmanager
def _comet(name: str, settings: Mapping[str, Any]) -> Iterator[keras.callbacks.Callback]:
    import comet_ml

    experiment = comet_ml.start()
    try:
        experiment.set_name(name)
        experiment.log_parameters(dict(settings))
        yield experiment.get_callback("keras")
    finally:
        experiment.end()


@dataclass(frozen=True)
class _Tracker:
    package: str
    start: _Start


_TRACKERS = {
    "mlflow": _Tracker("mlflow", _mlflow),
    "wandb": _Tracker("wandb", _wandb),
    "comet": _Tracker("comet_ml", _comet),
}


def require_trackers(names: Sequence[str]) -> None:
    """Raise ConfigError, with what to install, unless the package of each service is installed."""
    missing = [package for name in names if not find_spec(package := _TRACKERS[name].package)]
    if missing:
        raise ConfigError(
            f"train.trackers: {' and '.join(missing)} cannot be imported; install with "
            f"`pip install {' '.join(missing)}`, or all three with "
            f"`{install_extra('track')}`"
        )


@contextmanager
def tracking(
    names: Sequence[str], run: str, settings: Mapping[str, Any]
) -> Iterator[list[keras.callbacks.Callback]]:
    """Start a run of each service, and end it with the block, also after an error.

    Parameters
    ----------
    names : sequence of {"mlflow", "wandb", "comet"}
    run : str
        Name of the run.
    settings : mapping
        Stored with the run, beside its metrics.

    Yields
    ------
    list of keras.callbacks.Callback
    """
    with ExitStack() as stack:
        yield [stack.enter_context(_TRACKERS[name].start(run, settings)) for name in names]
