"""What training leaves on disk after each epoch: checkpoints, figures and TensorBoard files."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import keras
import tensorflow as tf

from deepprofiler.learning import checkpoint as checkpoints
from deepprofiler.learning.checkpoint import Checkpoint
from deepprofiler.learning.history import best_epoch, log_line, write_csv
from deepprofiler.learning.network import Network

LOG = logging.getLogger("deepprofiler")


@dataclass
class Record:
    """The files of one training.

    Attributes
    ----------
    last, best : Path
        Checkpoints of the last finished epoch, and of the one with the lowest loss.
    figures : Path
        CSV file of every epoch's figures.
    logs : Path
        Folder of the TensorBoard files.
    """

    last: Path
    best: Path
    figures: Path
    logs: Path
    _writer: tf.summary.SummaryWriter | None = field(default=None, init=False)

    def write(
        self, state: Checkpoint, network: Network, optimizer: keras.Optimizer, epochs: int
    ) -> None:
        """Write what there is after an epoch, and tell it."""
        if state.epoch == 1:
            self._clear()
        # The best first: should the process end in between, the epoch is repeated as it was.
        if best_epoch(state.history) == state.epoch:
            checkpoints.save(self.best, state, network, optimizer)
        checkpoints.save(self.last, state, network, optimizer)
        write_csv(self.figures, state.history)
        row = state.history[-1]
        # Not before the first save, which removes the logs of an earlier training.
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self.logs))
        with self._writer.as_default(step=state.epoch):
            for name, value in row.items():
                tf.summary.scalar(name, value)
        self._writer.flush()
        LOG.info(log_line(row, epochs))

    def close(self) -> None:
        """Close the TensorBoard file."""
        if self._writer is not None:
            self._writer.close()

    def _clear(self) -> None:
        """Remove what an earlier training left, now that a first epoch can replace it."""
        self.last.unlink(missing_ok=True)
        for path in self.logs.glob("events.out.tfevents*"):
            path.unlink()
