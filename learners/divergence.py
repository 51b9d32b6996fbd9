"""Whether a training still is one of numbers, and what is said where it is not."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from learners.train_step import Steps, TrainStep
from utils.errors import RunError
from utils.finite import not_finite


class Call(NamedTuple):
    """Some steps of a training that were taken in one call.

    title: of the training.
    begin: the first step.
    rates: the learning rate of each `[n]`.
    last_loss: of the step before them; None where that is not known.
    checkpoint: where the last good one would be.
    """

    title: str
    begin: int
    rates: np.ndarray
    last_loss: float | None
    checkpoint: Path


def check_finite(done: Steps, step: TrainStep, call: Call) -> None:
    """Raises RunError where the steps gave a loss, or left a weight, that is no number."""
    bad = np.flatnonzero(~np.isfinite(done.losses))
    if len(bad):
        at = int(bad[0])
        found, before = f"the loss is {done.losses[at]}", done.losses[:at]
    elif not done.is_finite:
        # Every loss is of the weights before its own update: it is the last update that was too much.
        at = len(done.losses) - 1
        wrong = not_finite([*step.model.variables, *step.optimizer.variables])
        found, before = f"there is {wrong} after the update", done.losses
    else:
        return
    last_loss = float(before[-1]) if len(before) else call.last_loss
    last = "" if last_loss is None else f" The last finite loss was {last_loss:.4g}."
    file = call.checkpoint
    kept = f"the last good checkpoint is {file}" if file.exists() else "no checkpoint was written yet"
    raise RunError(
        f"{call.title}: {found} at step {call.begin + at} with learning rate {call.rates[at]:.3g}; {kept}.{last} "
        "A lower --lrn_rate_init may help (with --overwrite or another --run_dir), or inputs of a smaller range."
    )
