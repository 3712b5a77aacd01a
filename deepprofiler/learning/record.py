"""What training leaves on disk after each epoch: checkpoints, figures and TensorBoard files."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import keras
import tensorflow as tf

from deepprofiler.files import replacing
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
        """Write what there is after an epoch, and tell it.

        Should the process end in between, the two checkpoints are of one training: after the
        first epoch the best of an earlier one goes before there is a new last; later on the best
        comes first, and the epoch is repeated as it was.
        """
        if state.epoch == 1:
            with replacing(self.last) as temporary:
                checkpoints.save(temporary, state, network, optimizer)
                self.best.unlink(missing_ok=True)
            self._clear_logs()
        if best_epoch(state.history) == state.epoch:
            checkpoints.save(self.best, state, network, optimizer)
        if state.epoch > 1:
            checkpoints.save(self.last, state, network, optimizer)
        write_csv(self.figures, state.history)
        row = state.history[-1]
        # Not before the logs of an earlier training are removed.
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self.logs))
        with self._writer.as_default(step=state.epoch):
            for name, value in row.items():
                tf.summary.scalar(name, value)
        self._writer.flush()
        LOG.info(log_line(row, epochs))

    def resume(self, history: Sequence[Mapping[str, float]]) -> None:
        """Write what a training that ended within :meth:`write` did not come to."""
        write_csv(self.figures, history)
        if best_epoch(history) == len(history) and not self.best.exists():
            with replacing(self.best) as temporary:
                shutil.copyfile(self.last, temporary)

    def close(self) -> None:
        """Close the TensorBoard file."""
        if self._writer is not None:
            self._writer.close()

    def _clear_logs(self) -> None:
        """Remove what an earlier training left, now that a first epoch has replaced it."""
        for path in self.logs.glob("events.out.tfevents*"):
            path.unlink()
