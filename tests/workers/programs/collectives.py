"""Every method of HorovodWorkers, and the functions that are made of them."""

import functools
import time

import keras
import ml_dtypes
import numpy as np
import tensorflow as tf
from reporting import main

from utils.errors import InputError, RunError
from utils.workers import check_same, difference, from_all, from_first, share_variables


def place(workers):
    return [workers.rank, workers.size, workers.local_rank, workers.is_first]


def broadcasts(workers):
    values = {"half": np.arange(3).astype(ml_dtypes.bfloat16), "unsigned": np.uint32(7), "text": "ä", "none": None}
    sent = workers.broadcast(values if workers.is_first else "not this")
    from_second = workers.broadcast(np.full(5, workers.rank), root=1)
    return [sent["half"].astype(float).tolist(), str(sent["half"].dtype), int(sent["unsigned"]), sent["text"],
            sent["none"], from_second.tolist()]  # fmt: skip


def gathers_values_of_unequal_length(workers):
    return workers.all_gather([f"rank {workers.rank}"] * (1 + 3 * workers.rank))


def means_and_sums_of_several_types(workers):
    tensors = [tf.constant([1.0, 2.0]) * (workers.rank + 1), tf.constant(3 + workers.rank, tf.float64)]
    counts = [tf.constant([workers.rank, 10], tf.int64), tf.constant(0.5)]
    means, sums = workers.mean(tensors), workers.sum(counts)
    return [tensor.numpy().tolist() for tensor in [*means, *sums]] + [tensor.dtype.name for tensor in [*means, *sums]]


def nothing_to_reduce(workers):
    return [workers.mean([]), workers.sum([])]


def gradient_of_a_mean(workers):
    """With y = mean of x over the workers and the loss (rank + 1) * y^2, x = rank + 1."""
    x = tf.Variable(float(workers.rank + 1))

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            (y,) = workers.mean([x.value()])
            loss = (workers.rank + 1) * y**2
        return y, tape.gradient(loss, x)

    return [float(value) for value in gradient()]


def _raised(function):
    try:
        return ["returned", function()]
    except (InputError, RunError) as error:
        return [type(error).__name__, str(error)]


def what_the_first_says(workers):
    def say():
        assert workers.is_first, "only rank 0 is asked"
        return 42

    def fail():
        raise InputError("there is no such file")

    def break_down():
        raise RunError("the disk is full")

    return [_raised(functools.partial(from_first, workers, function)) for function in (say, fail, break_down)]


def what_all_say(workers):
    def only_the_second_fails():
        if workers.rank == 1:
            raise InputError("no data here")
        return "fine"

    def all_fail():
        raise InputError("the flag is wrong")

    functions = (lambda: workers.rank, only_the_second_fails, all_fail)
    return [_raised(functools.partial(from_all, workers, function)) for function in functions]


def variables_of_the_first(workers):
    variables = [
        keras.Variable(np.full(2, workers.rank + 5.0), dtype="float32"),
        keras.Variable(np.full(2, workers.rank + 5), dtype="uint32"),
        tf.Variable(workers.rank == 0),
    ]
    share_variables(workers, variables)
    return [variable.numpy().tolist() for variable in variables]


def differences(workers):
    equal = {"a": np.arange(3.0), "b": np.zeros(0)}
    other = {"a": np.arange(3.0) + np.array([0, 0, 1e-12 * workers.rank])}
    return [
        difference(workers, "the same") is None,
        difference(workers, f"version {workers.rank}"),
        _raised(lambda: check_same(workers, "the masks", lambda: equal)),
        _raised(lambda: check_same(workers, "the masks", lambda: other)),
    ]


def waits_for_the_slow_one(workers):
    began = time.perf_counter()
    time.sleep(1.5 * workers.rank)
    workers.all_gather(None)
    return time.perf_counter() - began


if __name__ == "__main__":
    main(
        place,
        broadcasts,
        gathers_values_of_unequal_length,
        means_and_sums_of_several_types,
        nothing_to_reduce,
        gradient_of_a_mean,
        what_the_first_says,
        what_all_say,
        variables_of_the_first,
        differences,
        waits_for_the_slow_one,
    )
