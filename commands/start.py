"""What comes before any work in TensorFlow: its import, its share of the cores, the learner."""

import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from typing import Any

from utils.quiet import quiet_stderr


def share_processor() -> None:
    """Several workers of one machine share its cores, unless the environment says otherwise."""
    if "HOROVOD_RANK" in os.environ:
        # With one thread a collective operation and the input pipeline wait for each other for ever.
        operations = int(os.environ.get("TF_NUM_INTEROP_THREADS") or 0)
        os.environ["TF_NUM_INTEROP_THREADS"] = str(max(2, operations))
    fellows = int(os.environ.get("HOROVOD_LOCAL_SIZE", "1"))
    if fellows > 1:
        threads = max(1, len(os.sched_getaffinity(0)) // fellows)
        for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ.setdefault(name, str(threads))


def learner_class_of(name: str) -> type:
    """The class of `--learner name`; imports only what this one needs."""
    if name == "full-prec":
        from learners.full_precision import FullPrecisionLearner

        return FullPrecisionLearner
    if name == "weight-sparse":
        from learners.weight_sparsification.learner import WeightSparseLearner

        return WeightSparseLearner
    if name == "lottery-ticket":
        from learners.lottery_ticket.learner import LotteryTicketLearner

        return LotteryTicketLearner
    from learners.scheduled.learner import ScheduledLearner

    return ScheduledLearner


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Looks for no garbage meanwhile, a third of the time, nor later in what TensorFlow's first import made."""
    is_first = "tensorflow" not in sys.modules
    gc.disable()
    try:
        yield
    finally:
        if is_first:
            gc.freeze()
        gc.enable()


def import_tensorflow() -> None:
    """Imports TensorFlow without its lines about processor features, which no setting of its own suppresses.

    Also without two packages that Keras loads for helpers which we do not use: they are a quarter of the time.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    hidden: dict[str, Any] = {name: None for name in ("matplotlib", "sklearn") if name not in sys.modules}
    sys.modules.update(hidden)
    try:
        with quiet_stderr(show_on_error=True):
            import tensorflow as tf

            tf.constant(0.0)
            tf.get_logger().setLevel("ERROR")  # its advice on tracing is not for users; tests count traces
    finally:
        for name in hidden:
            del sys.modules[name]
