"""Whether a mean over three workers depends on what else is exchanged at the time."""

import numpy as np
import tensorflow as tf
from reporting import main

REPEATS = 20


def is_each_sum_its_own(workers):
    """Means one after the other, and twenty times both in one graph: how often the bits were the same."""
    generator = np.random.default_rng(workers.rank)

    def tensors(*sizes):
        return [tf.constant(generator.normal(size=size).astype(np.float32)) for size in sizes]

    gradients, statistics = tensors(1003, 57, 4099), tensors(501, 2003)
    alone = workers.mean(gradients) + workers.mean(statistics)

    @tf.function
    def together():
        return workers.mean(gradients) + workers.mean(statistics)

    def is_same(found):
        return all(np.array_equal(one, other) for one, other in zip(found, alone, strict=True))

    return sum(is_same(together()) for _ in range(REPEATS))


if __name__ == "__main__":
    main(is_each_sum_its_own)
