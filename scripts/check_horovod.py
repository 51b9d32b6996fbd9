"""Checks an installed Horovod by sums over all processes that run this; says what is wrong and ends with exit code 1.

Usage: horovodrun -np 2 --gloo python scripts/check_horovod.py (gloo | nccl) NUM_PROCESSES SECONDS
"""

import signal
import sys

import horovod.tensorflow as hvd
import tensorflow as tf


def find_mistake(operations: str, num_processes: int) -> str | None:
    """Sums tensors over all processes, on the CPU (gloo) or each on its own GPU (nccl); None where all is right."""
    is_on_gpu = operations == "nccl"
    gpus = tf.config.list_physical_devices("GPU")
    tf.config.set_visible_devices([gpus[hvd.local_rank()]] if is_on_gpu else [], "GPU")
    if not hvd.gloo_built():
        return "was built without Gloo"
    if is_on_gpu and not hvd.nccl_built():
        return "was built without NCCL"
    if hvd.size() != num_processes:
        return f"must join {num_processes} processes. Received: {hvd.size()}"

    @tf.function
    def sum_over_processes(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        return hvd.grouped_allreduce(tensors, op=hvd.Sum)

    # 1 + 2 + ... + n: each term and sum is exact in half precision.
    expected = num_processes * (num_processes + 1) / 2
    with tf.device("GPU:0" if is_on_gpu else "CPU:0"):
        for dtype in (tf.float32, tf.float16):
            own = tf.fill([1000], tf.cast(hvd.rank() + 1, dtype))
            for received in sum_over_processes([own, own[:1]]):
                if not bool(tf.reduce_all(received == tf.cast(expected, dtype))):
                    return f"sums {dtype.name} wrongly: must be {expected}. Received: {received[0].numpy()}"
    return None


if __name__ == "__main__":
    # A process that waits for ever for another one ends itself.
    signal.alarm(int(sys.argv[3]))
    hvd.init()
    mistake = find_mistake(sys.argv[1], int(sys.argv[2]))
    if mistake is not None:
        sys.exit(f"Horovod {mistake}")
