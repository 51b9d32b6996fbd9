"""The one training loop: compiled steps, checkpoints, resume, monitoring. Every learner trains through `train`."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from compressors.policies import Batch, Policy, Replacement
from learners.evaluation import Evaluation, Loss, Quality, exact_sum
from nets.layers import synchronise_batch_norm
from nets.tasks import ACCURACY, is_largest_right
from utils.errors import InputError, RunError
from utils.keras_layers import all_layers
from utils.progress import Progress
from utils.run_dir import Checkpoint, read_checkpoint, write_checkpoint
from utils.workers import ALONE, Workers, check_same, from_first, share_variables


class TrainStep:
    """`run(iterator, rates, first_step)`: one optimizer step for each of the learning rates, in one compiled call.

    The loss is the policy's transform of `loss(labels, model(images))`; `weight_decay * w` is added to the gradient of
    every trainable variable outside batch norm. Learning rates and masks are data, so nothing is traced twice.

    Several workers each have a batch of their own; gradients and losses are the means over all of them, so that all
    take the same step. Moving statistics of batch norm go their own ways during a call and are averaged at its end.

    Args:
        workers: those who train the network together.
        sync_batch_norm: whether batch norm normalises by the statistics of all workers' batches together.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.Optimizer,
        loss: Loss,
        policy: Policy,
        weight_decay: float = 0.0,
        quality: Quality = is_largest_right,
        workers: Workers = ALONE,
        sync_batch_norm: bool = False,
    ):
        self._loss, self._policy, self._weight_decay, self._quality = loss, policy, weight_decay, quality
        self.workers, self._sync_batch_norm = workers, sync_batch_norm
        self.trace_count = 0
        self.adopt(Replacement(model, optimizer))

    def adopt(self, network: Replacement) -> None:
        """Trains this network from here on; it is traced anew."""
        self.model, self.optimizer = network
        if self._sync_batch_norm:
            synchronise_batch_norm(self.model, self.workers)
        self._statistics = _float_statistics(self.model) if self.workers.size > 1 else []
        self._decayed = {id(variable) for variable in _decayed_variables(self.model)}
        if not self.optimizer.built:
            self.optimizer.build(self.model.trainable_variables)
        self._compiled: Any = None

    def run(self, iterator: Any, rates: np.ndarray, first_step: int = 0) -> tuple[np.ndarray, float]:
        """Losses of the steps `[n]`, and the sum of their examples' quality (how many were classified right).

        Of several workers both are means over them.
        """
        if self._compiled is None:
            numbers = (tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.int64))
            specs = (tf.data.IteratorSpec(iterator.element_spec), *numbers)
            self._compiled = tf.function(self._run, input_signature=specs)
        losses, quality = self._compiled(iterator, tf.constant(rates, tf.float32), tf.constant(first_step, tf.int64))
        return losses.numpy(), float(quality)

    def _run(self, iterator, rates, first_step):
        self.trace_count += 1
        step = tf.autograph.experimental.do_not_convert(self._step)  # only this loop is Python to be converted
        count = tf.size(rates)
        losses = tf.TensorArray(tf.float32, count)
        quality = tf.zeros([], tf.float64)
        for index in tf.range(count):
            loss, of_step = step(next(iterator), rates[index], first_step + tf.cast(index, tf.int64))
            losses = losses.write(index, loss)
            quality += of_step
        for variable, mean in zip(self._statistics, self.workers.mean(self._statistics), strict=True):
            variable.assign(mean)
        return self.workers.mean([losses.stack(), quality])

    def _step(self, batch, rate, step):
        images, labels = batch
        variables = self.model.trainable_variables
        self._policy.before_forward(step)
        with tf.GradientTape() as tape:
            logits = self.model(images, training=True)
            loss = self._loss(labels, logits)
            total = self._policy.transform_loss(loss, Batch(images, labels, logits))
        gradients = self._averaged(tape.gradient(total, [variable.value for variable in variables]))
        gradients = [self._decay(gradient, variable) for gradient, variable in zip(gradients, variables, strict=True)]
        gradients = self._policy.transform_gradients(gradients, variables)
        self.optimizer.learning_rate.assign(rate)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self._policy.after_update()
        return loss, exact_sum(self._quality(labels, logits))

    def _averaged(self, gradients):
        means = iter(self.workers.mean([gradient for gradient in gradients if gradient is not None]))
        return [None if gradient is None else next(means) for gradient in gradients]

    def _decay(self, gradient, variable):
        decay = self._policy.weight_decay(variable, self._weight_decay if id(variable) in self._decayed else 0.0)
        return gradient + decay * variable.value if decay else gradient


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

    Args:
        batches: start step -> endless batches; batch t must depend on t alone.
        learning_rates: `[steps]`, the recipe's.
        validation: evaluated after every epoch, for the curves and for policies that look at them.
        first_step: where a training without a checkpoint begins; rates and batches are those of the steps from there.

    Raises:
        RunError: the loss is not finite; the last good checkpoint stays. Or the workers' masks differ.
    """
    total, workers = len(learning_rates), step.workers
    share_variables(workers, [*step.model.variables, *step.optimizer.variables])
    progress = _Position.resume(checkpoint, step, policy) or _Position(first_step)
    progress.fit(total)
    if validation is not None:
        validation.use(step.model)
    iterator = iter(batches(progress.step))
    batch_size = iterator.element_spec[0].shape[0]
    with Progress(title, total, initial=progress.step, quiet=monitor.quiet) as bar:
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
            rates = policy.learning_rates(learning_rates[begin:end])
            losses, quality = step.run(iterator, rates, begin)
            progress.step_seconds.append((time.perf_counter() - started) / (end - begin))
            _check_finite(losses, begin, rates, checkpoint)
            progress.add(end, losses, quality, batch_size)
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
                policy.on_epoch_end((end - 1) // steps_per_epoch, {"loss": float(losses.mean()), **validated})
                _adopt(policy.replacement(), step, validation)
            progress.seconds += time.perf_counter() - started
            if workers.is_first and (end % monitor.save_interval == 0 or end == total):
                progress.save(checkpoint, step, policy)
    iterations = total - first_step
    rate = iterations * batch_size * workers.size / progress.seconds
    return TrainingResult(progress.history, progress.seconds, iterations, rate, float(np.median(progress.step_seconds)))


def restore_training(checkpoint: Path, step: TrainStep, policy: Policy) -> None:
    """Puts network, optimizer and policy where a training had them at its last checkpoint.

    Raises:
        RunError: there is no checkpoint.
    """
    if _Position.resume(checkpoint, step, policy) is None:
        raise RunError(f"there is no checkpoint {checkpoint}, which the run needs; --overwrite starts anew")


def _adopt(network: Replacement | None, step: TrainStep, validation: Evaluation | None) -> None:
    if network is not None:
        step.adopt(network)
        if validation is not None:
            validation.use(network.model)


class _Position:
    """Where a training stands: step, curves, and the sums since the last row."""

    def __init__(
        self, step=0, seconds=0.0, history=(), loss_sum=0.0, quality=0.0, images=0, steps=0, step_seconds=(), total=0
    ):
        self.step, self.seconds, self.history, self.step_seconds = step, seconds, list(history), list(step_seconds)
        self.total = total  # steps of the whole training, 0: not known
        self.loss_sum, self.quality, self.images, self.steps = loss_sum, quality, images, steps

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

    def add(self, end: int, losses: np.ndarray, quality: float, batch_size: int) -> None:
        self.loss_sum += float(losses.sum(dtype=np.float64))
        self.quality += quality
        self.images += len(losses) * batch_size
        self.steps += len(losses)
        self.step = end

    def row(self, rate: float, sparsity: float) -> dict[str, float]:
        """The mean loss and accuracy since the last row; starts the next."""
        row = {
            "step": self.step,
            "loss": self.loss_sum / self.steps,
            "accuracy": self.quality / self.images,
            "sparsity": sparsity,
            "learning_rate": float(rate),
        }
        self.loss_sum, self.quality, self.images, self.steps = 0.0, 0.0, 0, 0
        return row


def _arrays(step: TrainStep, policy: Policy) -> dict[str, np.ndarray]:
    """All numbers that the coming steps depend on."""
    groups = {
        "model/": named_arrays(step.model.variables),
        "optimizer/": {f"{index}": np.asarray(v.value) for index, v in enumerate(step.optimizer.variables)},
        "policy/": policy.state(),
    }
    return {prefix + name: array for prefix, group in groups.items() for name, array in group.items()}


def _next_stop(step: int, total: int, monitor: Monitor, steps_per_epoch: int, update: int | None) -> int:
    """The first step after `step` where the loop must come back to Python."""
    intervals = (monitor.summary_interval, monitor.save_interval, steps_per_epoch)
    stops = [(step // interval + 1) * interval for interval in intervals]
    return min([*stops, total] + ([] if update is None else [update]))


def _check_finite(losses: np.ndarray, begin: int, rates: np.ndarray, checkpoint: Path) -> None:
    bad = np.flatnonzero(~np.isfinite(losses))
    if len(bad):
        at = begin + int(bad[0])
        kept = f"the last good checkpoint is {checkpoint}" if checkpoint.exists() else "no checkpoint was written yet"
        raise RunError(
            f"the loss is {losses[bad[0]]} at step {at} with learning rate {rates[bad[0]]:.3g}; {kept}. "
            "A lower --lrn_rate_init may help."
        )


def _decayed_variables(model: keras.Model) -> list[keras.Variable]:
    norms = [layer for layer in all_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]
    normalised = {id(variable) for layer in norms for variable in layer.variables}
    return [variable for variable in model.trainable_variables if id(variable) not in normalised]


def _float_statistics(model: keras.Model) -> list[tf.Variable]:
    """What a step changes beside the trained variables, and every worker by its own batch: moving statistics."""
    variables = [variable.value for variable in model.non_trainable_variables]
    return [variable for variable in variables if variable.dtype.is_floating]


def _with_prefix(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}


def _optimizer_arrays(arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """In the order of `optimizer.variables`: paths would do no good, Keras numbers optimizers as they are made."""
    by_index = {int(index): array for index, array in _with_prefix(arrays, "optimizer/").items()}
    return [by_index[index] for index in sorted(by_index)]


def named_arrays(variables: Sequence[keras.Variable]) -> dict[str, np.ndarray]:
    """Variable path -> value."""
    return {variable.path: np.asarray(variable.value) for variable in variables}


def restore_variables(variables: Sequence[keras.Variable], arrays: Mapping[str, np.ndarray], source: str) -> None:
    """Assigns all variables or none.

    Raises:
        InputError: names or shapes differ; the first three differences are named.
    """
    wanted = {variable.path: tuple(variable.shape) for variable in variables}
    found = {path: array.shape for path, array in arrays.items()}
    paths = list(wanted) + [path for path in found if path not in wanted]
    different = [
        f"{path}: {found.get(path, 'missing')} there, {wanted.get(path, 'missing')} here"
        for path in paths
        if found.get(path) != wanted.get(path)
    ]
    if different:
        more = f" and {len(different) - 3} more" if len(different) > 3 else ""
        raise InputError(f"{source} holds another network. {'; '.join(different[:3])}{more}")
    for variable in variables:
        variable.assign(arrays[variable.path])
