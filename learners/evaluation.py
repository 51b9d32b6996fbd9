"""How good a network is on a whole data set: mean quality and mean loss."""

from collections.abc import Callable, Mapping

import keras
import tensorflow as tf

from nets.tasks import is_largest_right
from utils.workers import ALONE, Workers

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # labels, outputs -> the batch's mean
Quality = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # labels, outputs -> of each example [B]


class Evaluation:
    """`evaluation()`: accuracy and mean loss of a model over a data set, exact to the last odd batch; compiled once.

    Of other figures that are asked for it gives the means by their names, too.

    Args:
        quality: its mean is the accuracy.
        metrics: name -> quality of each example.
        workers: those whose batches together are the data set.
        in_memory: keep the batches as tensors. For a set that is evaluated again and again: reading it through tf.data
            took as long as evaluating it.
    """

    def __init__(
        self,
        model: keras.Model,
        batches: tf.data.Dataset,
        loss: Loss,
        in_memory: bool = False,
        quality: Quality = is_largest_right,
        workers: Workers = ALONE,
        metrics: Mapping[str, Quality] | None = None,
    ):
        qualities = {"accuracy": quality, **(metrics or {})}
        self._names = tuple(qualities)

        def sums(images, labels):
            logits = self._model(images, training=False)
            count = tf.shape(labels, tf.int64)[0]
            loss_sum = loss(labels, logits) * tf.cast(count, tf.float32)
            return tf.stack([exact_sum(each(labels, logits)) for each in qualities.values()]), count, loss_sum

        def zeros():
            return tf.zeros([len(qualities)], tf.float64), tf.zeros([], tf.int64), tf.zeros([])

        def over_dataset():
            totals = zeros()
            for images, labels in batches:
                totals = tuple(total + part for total, part in zip(totals, sums(images, labels), strict=True))
            return totals

        def over_tensors():
            totals = zeros()
            for first in tf.range(0, tf.shape(labels)[0], size):
                parts = sums(images[first : first + size], labels[first : first + size])
                totals = tuple(total + part for total, part in zip(totals, parts, strict=True))
            return totals

        if in_memory:
            batches = list(batches)
            images, labels = (tf.concat([batch[part] for batch in batches], 0) for part in (0, 1))
            size = len(batches[0][0])
        over_batches = over_tensors if in_memory else over_dataset
        self._sums_over_all = lambda: workers.sum(over_batches())
        self.use(model)

    def use(self, model: keras.Model) -> None:
        """Evaluates this model from here on."""
        self._model, self._run = model, tf.function(self._sums_over_all)

    def __call__(self) -> dict[str, float]:
        quality_sums, total, loss_sum = (value.numpy() for value in self._run())
        means = {name: float(quality_sum / total) for name, quality_sum in zip(self._names, quality_sums, strict=True)}
        return means | {"loss": float(loss_sum / total)}


def exact_sum(quality: tf.Tensor) -> tf.Tensor:
    """The sum of a batch in double precision, where counts of right ones are exact however many there are."""
    return tf.reduce_sum(tf.cast(quality, tf.float64))
