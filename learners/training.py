"""The one training loop: compiled steps, checkpoints, resume, monitoring. Every learner trains through `train`."""

import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from compressors.policies import Policy, Replacement
from learners.divergence import Call, check_finite
from learners.evaluation import Evaluation
from learners.precision import FLOAT32
from learners.train_step import Steps, TrainStep
from learners.variables import named_arrays, restore_variables
from nets.tasks import ACCURACY
from utils import interruption
from utils.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from utils.errors import RunError
from utils.progress import Progress
from utils.workers import Workers, check_same, from_first, share_variables

SECONDS_IN_A_CALL = 2.0  # so that an interrupt need not wait for long


class TrainingResult(NamedTuple):
    """What a training leaves beside the weights."""

    history: list[dict[str, float]]  # a row every `summary_interval` steps
    seconds: float
    iterations: int
    images_per_second: float
    step_seconds: float  # median time of one optimizer step


class Monitor(NamedTuple):
    """How often to look, and who is told."""

    summary_interval: int
    save_interval: int
    on_row: Callable[[Mapping[str, float]], None] = lambda row: None
    quiet: bool = False
    metric_name: str = ACCURACY  # what the progress line calls the mean quality


def train(
    step: TrainStep,
    policy: Policy,
    batches: Callable[[int], tf.data.Dataset],
    learning_rates: np.ndarray,
    checkpoint: Path,
    monitor: Monitor,
    *,
    title: str,
    steps_per_epoch: int,
    validation: Evaluation | None = None,
    first_step: int = 0,
) -> TrainingResult:
    """Trains up to step `len(learning_rates)`, from the last checkpoint if there is one; `step.model` is the result.

    In whatever precision the steps compute, it computes in float32 afterwards. An interrupt waits until a checkpoint is
    written; but not during the first call, which may take long and has nothing to lose.

    Args:
        batches: start step -> endless batches; batch t must depend on t alone.
        learning_rates: `[steps]`, the recipe's.
        validation: evaluated after every epoch, for the curves and for policies that look at them.
        first_step: where a training without a checkpoint begins; rates and batches are those of the steps from there.

    Raises:
        RunError: a loss or a weight is not finite; the last good checkpoint stays. Or the workers' masks differ. Or XLA
            cannot compile the step.
    """
    total, workers = len(learning_rates), step.workers
    share_variables(workers, [*step.model.variables, *step.optimizer.variables])
    progress = _Position.resume(checkpoint, step, policy) or _Position(first_step)
    step.set_precision()
    progress.fit(total)
    if validation is not None:
        validation.use(step.model)
    iterator = iter(batches(progress.step))
    last_loss: float | None = None
    batch_size = iterator.element_spec[0].shape[0]
    start = progress.step
    with Progress(title, total, initial=start, quiet=monitor.quiet) as bar, contextlib.ExitStack() as held:
        while progress.step < total:
            started, begin = time.perf_counter(), progress.step
            is_epoch_begin, is_update = begin % steps_per_epoch == 0, policy.next_update(begin) == begin
            if is_epoch_begin:
                policy.on_epoch_begin(begin // steps_per_epoch)
            if is_update:
                policy.on_batch_begin(begin)
            if is_epoch_begin or is_update:
                check_same(workers, f"weights and masks before step {begin}", lambda: _arrays(step, policy))
            end = _next_stop(begin, total, monitor, steps_per_epoch, policy.next_update(begin + 1))
            end = min(end, begin + progress.affordable_steps(workers))
            rates = policy.learning_rates(learning_rates[begin:end])
            done = step.run(iterator, rates, begin)
            progress.step_seconds.append((time.perf_counter() - started) / (end - begin))
            check_finite(done, step, Call(title, begin, rates, last_loss, checkpoint))
            last_loss = float(done.losses[-1])
            if step.loss_scale is not None:
                step.loss_scale.check()
            progress.add(end, done, batch_size)
            is_epoch_end = end % steps_per_epoch == 0 or end == total
            validated = {}
            if is_epoch_end and validation is not None:
                with policy.compressed():
                    validated = {f"validation_{name}": value for name, value in validation().items()}
            if end % monitor.summary_interval == 0 or validated or end == total:
                row = progress.row(rates[-1], policy.sparsity()) | validated
                progress.history.append(row)
                monitor.on_row(row)
                bar.update(end, **{"loss": row["loss"], monitor.metric_name: row["accuracy"]})
            if is_epoch_end:
                policy.on_epoch_end((end - 1) // steps_per_epoch, {"loss": progress.epoch_loss(), **validated})
                _adopt(policy.replacement(), step, validation)
                step.set_precision()
            progress.seconds += time.perf_counter() - started
            if _is_asked_to_end(workers):
                from_first(workers, lambda: progress.save(checkpoint, step, policy))  # all wait for it
                raise interruption.interrupt()
            if workers.is_first and (end % monitor.save_interval == 0 or end == total):
                progress.save(checkpoint, step, policy)
            if begin == start:
                held.enter_context(interruption.postponed())
    step.set_precision(FLOAT32)
    iterations = total - first_step
    rate = iterations * batch_size * workers.size / progress.seconds
    return TrainingResult(progress.history, progress.seconds, iterations, rate, float(np.median(progress.step_seconds)))


def restore_training(checkpoint: Path, step: TrainStep, policy: Policy) -> bool:
    """Puts network, optimizer and policy where a training had them at its last checkpoint; whether that is its end.

    It is not where the last one is damaged and the one before it was taken.

    Raises:
        RunError: there is no checkpoint.
    """
    found = _Position.resume(checkpoint, step, policy)
    if found is None:
        raise RunError(f"there is no checkpoint {checkpoint}, which the run needs; --overwrite starts anew")
    return found.step == found.total


def _adopt(network: Replacement | None, step: TrainStep, validation: Evaluation | None) -> None:
    if network is not None:
        step.adopt(network)
        if validation is not None:
            validation.use(network.model)


class _Position:
    """Where a training stands: step, curves, and the sums since the last row."""

    def __init__(
        self,
        step=0,
        seconds=0.0,
        history=(),
        loss_sum=0.0,
        quality=0.0,
        images=0,
        steps=0,
        step_seconds=(),
        total=0,
        divergence_sum=None,
        epoch_loss_sum=0.0,
        epoch_steps=0,
    ):
        self.step, self.seconds, self.history, self.step_seconds = step, seconds, list(history), list(step_seconds)
        self.total = total  # steps of the whole training, 0: not known
        self.loss_sum, self.quality, self.images, self.steps = loss_sum, quality, images, steps
        self.divergence_sum = divergence_sum  # None: no teacher, or no step since the last row
        self.epoch_loss_sum, self.epoch_steps = epoch_loss_sum, epoch_steps

    @classmethod
    def resume(cls, path: Path, step: TrainStep, policy: Policy) -> "_Position | None":
        """Restores everything from the checkpoint; None where there is none."""
        found = from_first(step.workers, lambda: read_checkpoint(path))
        if found is None:
            return None
        _adopt(policy.restructure(_with_prefix(found.arrays, "policy/")), step, None)
        restore_variables(step.model.variables, _with_prefix(found.arrays, "model/"), str(path))
        for variable, array in zip(step.optimizer.variables, _optimizer_arrays(found.arrays), strict=True):
            variable.assign(array)
        policy.restore(_with_prefix(found.arrays, "policy/"))
        if step.loss_scale is not None:
            step.loss_scale.restore(_with_prefix(found.arrays, "loss_scale/"))
        return cls(**found.meta)

    def fit(self, total: int) -> None:
        """Goes to the same share of a training of `total` steps: other workers have other batches, not other images."""
        if self.total not in (0, total):
            factor = total / self.total
            self.step = round(self.step * factor)
            self.history = [row | {"step": round(row["step"] * factor)} for row in self.history]
        self.total = total

    def save(self, path: Path, step: TrainStep, policy: Policy) -> None:
        write_checkpoint(path, Checkpoint(_arrays(step, policy), dict(vars(self))))

    def add(self, end: int, done: Steps, batch_size: int) -> None:
        # One after the other, so that the sums do not depend on where the calls of the compiled loop ended.
        for loss in done.losses.tolist():
            self.loss_sum += loss
            self.epoch_loss_sum += loss
        for divergence in [] if done.divergences is None else done.divergences.tolist():
            self.divergence_sum = (self.divergence_sum or 0.0) + divergence
        self.epoch_steps += len(done.losses)
        self.quality += done.quality
        self.images += len(done.losses) * batch_size
        self.steps += len(done.losses)
        self.step = end

    def epoch_loss(self) -> float:
        """The mean loss of the epoch that ends; starts the next."""
        mean = self.epoch_loss_sum / self.epoch_steps
        self.epoch_loss_sum, self.epoch_steps = 0.0, 0
        return mean

    def affordable_steps(self, workers: Workers) -> int:
        """How many a call may take at most.

        Several workers must stop together and at the same steps in every start: there each stop leaves its rounding in
        the mean of their statistics.
        """
        if workers.size > 1 or not self.step_seconds:
            return sys.maxsize
        return max(1, int(SECONDS_IN_A_CALL / self.step_seconds[-1]))

    def row(self, rate: float, sparsity: float) -> dict[str, float]:
        """The means of losses and accuracy since the last row; starts the next."""
        row = {
            "step": self.step,
            "loss": self.loss_sum / self.steps,
            "accuracy": self.quality / self.images,
            "sparsity": sparsity,
            "learning_rate": float(rate),
        }
        if self.divergence_sum is not None:
            row["distillation_loss"] = self.divergence_sum / self.steps
        self.loss_sum, self.quality, self.images, self.steps, self.divergence_sum = 0.0, 0.0, 0, 0, None
        return row


def _arrays(step: TrainStep, policy: Policy) -> dict[str, np.ndarray]:
    """All numbers that the coming steps depend on."""
    groups = {
        "model/": named_arrays(step.model.variables),
        "optimizer/": {f"{index}": np.asarray(v.value) for index, v in enumerate(step.optimizer.variables)},
        "policy/": policy.state(),
        "loss_scale/": {} if step.loss_scale is None else step.loss_scale.state(),
    }
    return {prefix + name: array for prefix, group in groups.items() for name, array in group.items()}


def _next_stop(step: int, total: int, monitor: Monitor, steps_per_epoch: int, update: int | None) -> int:
    """The first step after `step` where the loop must come back to Python."""
    intervals = (monitor.summary_interval, monitor.save_interval, steps_per_epoch)
    stops = [(step // interval + 1) * interval for interval in intervals]
    return min([*stops, total] + ([] if update is None else [update]))


def _is_asked_to_end(workers: Workers) -> bool:
    """Whether this worker or, of several, any of them was interrupted; then all end here."""
    if workers.size == 1:
        return interruption.is_asked()
    if float(workers.sum([tf.constant(float(interruption.is_asked()))])[0]) == 0:
        return False
    interruption.ask()
    return True


def _with_prefix(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}


def _optimizer_arrays(arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """In the order of `optimizer.variables`: paths would do no good, Keras numbers optimizers as they are made."""
    by_index = {int(index): array for index, array in _with_prefix(arrays, "optimizer/").items()}
    return [by_index[index] for index in sorted(by_index)]
