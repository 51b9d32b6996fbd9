"""The processes that work together: one alone, or several that Horovod joins.

All of them run the same program on the same numbers. What they share is said here; rank 0 alone reads and writes the
run directory and talks to the user.
"""

import contextlib
import hashlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import keras
import numpy as np
import tensorflow as tf

from utils import interruption
from utils.errors import InputError, RunError
from utils.messages import pack, unpack

Result = TypeVar("Result")


class Workers(Protocol):
    """What a worker knows of its fellows.

    `broadcast`, `all_gather`, `mean` and `sum` are collective: all workers must call them, in the same order. `mean`
    and `sum` may be part of a compiled function, and have gradients.

    rank: of this process, from 0.
    size: how many there are.
    local_rank: of this process among those of its machine: the number of the GPU that is its own.
    """

    rank: int
    size: int
    local_rank: int

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0."""

    def broadcast(self, value: Any, root: int = 0) -> Any:
        """The value of rank `root`; what the others give does not count."""

    def all_gather(self, value: Any) -> list[Any]:
        """The values of all workers, in the order of their ranks."""

    def mean(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Each tensor's mean over the workers, the same bits on all of them."""

    def sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Each tensor's sum over the workers, the same bits on all of them."""


class SingleWorker:
    """One process, alone."""

    rank = 0
    size = 1
    local_rank = 0
    is_first = True

    def broadcast(self, value: Any, root: int = 0) -> Any:
        return value

    def all_gather(self, value: Any) -> list[Any]:
        return [value]

    def mean(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        return list(tensors)

    def sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        return list(tensors)


ALONE = SingleWorker()


class HorovodWorkers:
    """The processes that `horovodrun` started (Sergeev & Del Balso 2018).

    Args:
        timeout: seconds after which a worker that does not answer breaks a collective operation.
    """

    def __init__(self, timeout: int):
        # Horovod reads these when it starts. The first is for a fellow whose process stands still, the others for one
        # that runs but does not come to the operation its fellows wait in.
        os.environ.setdefault("HOROVOD_GLOO_TIMEOUT_SECONDS", str(timeout))
        os.environ.setdefault("HOROVOD_STALL_CHECK_TIME_SECONDS", str(max(1, timeout // 2)))
        os.environ.setdefault("HOROVOD_STALL_SHUTDOWN_TIME_SECONDS", str(timeout))
        # Otherwise Horovod adds up together whatever is ready: of three workers or more the bits then depend on timing.
        os.environ.setdefault("HOROVOD_DISABLE_GROUP_FUSION", "1")
        import horovod.tensorflow as horovod

        self._horovod = horovod
        horovod.init()
        self.rank, self.size, self.local_rank = horovod.rank(), horovod.size(), horovod.local_rank()
        self.is_first = self.rank == 0
        self._num_traced = 0

    def broadcast(self, value: Any, root: int = 0) -> Any:
        data = pack(value) if self.rank == root else np.zeros(0, np.uint8)
        size = int(self._horovod.broadcast(tf.constant([data.size], tf.int64), root, name="broadcast.size")[0])
        buffer = data if self.rank == root else np.zeros(size, np.uint8)
        sent = self._horovod.broadcast(tf.constant(buffer), root, name="broadcast.data")
        return value if self.rank == root else unpack(sent.numpy())

    def all_gather(self, value: Any) -> list[Any]:
        data = pack(value)
        sizes = self._horovod.allgather(tf.constant([data.size], tf.int64), name="gather.size").numpy()
        gathered = self._horovod.allgather(tf.constant(data), name="gather.data").numpy()
        return [unpack(part) for part in np.split(gathered, np.cumsum(sizes)[:-1])]

    def mean(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        return self._reduce(tensors, self._horovod.Average)

    def sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        return self._reduce(tensors, self._horovod.Sum)

    @tf.autograph.experimental.do_not_convert
    def _reduce(self, tensors: Sequence[tf.Tensor], operation: int) -> list[tf.Tensor]:
        """One collective operation for all tensors of a type; its gradient is the same operation on the gradients."""
        tensors = [tf.convert_to_tensor(tensor) for tensor in tensors]
        results: list[Any] = [None] * len(tensors)
        for kind in dict.fromkeys(tensor.dtype for tensor in tensors):
            places = [place for place, tensor in enumerate(tensors) if tensor.dtype == kind]
            # Horovod joins what has the same name. The names that it would make of the tensors' own depend on how many
            # networks a process has made before; the order in which operations are traced does not.
            name = "now"
            if tf.inside_function():
                self._num_traced += 1
                name = f"traced{self._num_traced}"

            @tf.custom_gradient
            def reduce(*parts, name=f"{name}_{kind.name}"):
                def gradient(*upstream):
                    return self._grouped(upstream, operation, f"{name}_gradient")

                return self._grouped(parts, operation, name), gradient

            for place, tensor in zip(places, reduce(*(tensors[place] for place in places)), strict=True):
                results[place] = tensor
        return results

    def _grouped(self, tensors: Sequence[tf.Tensor], operation: int, name: str) -> list[tf.Tensor]:
        return list(self._horovod.grouped_allreduce(list(tensors), op=operation, name=name, ignore_name_scope=True))


def make_workers(is_one_of_many: bool, timeout: int) -> Workers:
    """The workers of this run; each takes a GPU of its own where there are any. The timeout is in seconds.

    Raises:
        InputError: this process was not started by Horovod, or Horovod is not installed.
    """
    if not is_one_of_many or os.environ.get("HOROVOD_SIZE") == "1":  # one has nothing to share: Horovod is left out
        return ALONE
    if "HOROVOD_RANK" not in os.environ:
        raise InputError(
            "--enbl_multi_gpu is for processes that work together: scripts/run_local.sh NET_SCRIPT -n=N starts them. "
            "Received: --enbl_multi_gpu in a process that was started alone"
        )
    try:
        workers = HorovodWorkers(timeout)
    except ImportError as error:
        raise InputError(
            f"--enbl_multi_gpu needs Horovod, which scripts/install_horovod.sh builds. Received: {error}"
        ) from error
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        tf.config.set_visible_devices(gpus[workers.local_rank % len(gpus)], "GPU")
    return workers


@contextlib.contextmanager
def telling_of_lost_workers(workers: Workers, timeout: int) -> Iterator[None]:
    """Within it, a collective operation that breaks off becomes one clear RunError."""
    try:
        yield
    except tf.errors.OpError as error:
        if workers.size == 1 or "horovod" not in str(error).lower():
            raise
        if interruption.is_asked():  # as the other worker was, which was faster
            raise interruption.interrupt() from error
        raise RunError(
            f"another worker ended or did not answer; --worker_timeout is {timeout} s, which must be more than a "
            "roll-out or a finalist takes. The last checkpoint stays"
        ) from error


def from_first(workers: Workers, function: Callable[[], Result]) -> Result:
    """What `function` returns on rank 0, which alone calls it; its InputError or RunError is raised on every worker."""
    if workers.size == 1:
        return function()
    result, problem = None, None
    if workers.is_first:
        try:
            result = function()
        except (InputError, RunError) as error:
            problem = isinstance(error, InputError), str(error)
    result, problem = workers.broadcast((result, problem))
    if problem is not None:
        is_input, text = problem
        raise InputError(text) if is_input else RunError(text)
    return result


def from_all(workers: Workers, function: Callable[[], Result]) -> Result:
    """What `function` returns here, once it has on every worker; an InputError of any is raised on all of them.

    `function` must not call anything collective.
    """
    if workers.size == 1:
        return function()
    results: list[Result] = []
    problem = None
    try:
        results.append(function())
    except InputError as error:
        problem = str(error)
    found = workers.all_gather((socket.gethostname(), problem))
    texts = [text for _, text in found if text is not None]
    if not texts:
        return results[0]
    if len(texts) == workers.size and len(set(texts)) == 1:
        raise InputError(texts[0])
    rank, host, text = next((rank, host, text) for rank, (host, text) in enumerate(found) if text is not None)
    raise InputError(f"rank {rank} on {host}: {text}")


def share_variables(workers: Workers, variables: Sequence[keras.Variable | tf.Variable]) -> None:
    """Gives the variables of all workers the values of rank 0."""
    if workers.size == 1:
        return
    values = from_first(workers, lambda: [variable.numpy() for variable in variables])
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def difference(workers: Workers, value: Any) -> str | None:
    """Where not all workers have the same value: which rank has another one than rank 0, and what; else None."""
    if workers.size == 1:
        return None
    found = workers.all_gather((socket.gethostname(), value))
    first_host, first = found[0]
    for rank, (host, other) in enumerate(found):
        if other != first:
            return f"{other} on rank {rank} ({host}), {first} on rank 0 ({first_host})"
    return None


def check_same(workers: Workers, what: str, arrays: Callable[[], Mapping[str, np.ndarray]]) -> None:
    """Raises RunError unless named arrays have the same bits on all workers; not even asked for where there is one."""
    if workers.size == 1:
        return
    found = difference(workers, digest(arrays()))
    if found:
        raise RunError(
            f"{what} must be the same on all workers, but the hashes differ: {found}. "
            "Are the processors or packages of the machines of different kinds?"
        )


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """A short hash of named arrays: of names, shapes, types and every bit."""
    hashed = hashlib.blake2b(digest_size=8)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        hashed.update(f"{name} {array.shape} {array.dtype}".encode())
        hashed.update(array.tobytes())
    return hashed.hexdigest()
