"""The processes that train together; today there is one."""

from typing import Protocol

from utils.errors import InputError


class Workers(Protocol):
    """What training needs to know of its fellow processes."""

    rank: int
    size: int
    local_rank: int


class SingleWorker:
    """One process, alone."""

    rank = 0
    size = 1
    local_rank = 0


def make_workers(multi_gpu: bool) -> Workers:
    """The workers of this run.

    Raises:
        InputError: several processes are asked for.
    """
    if multi_gpu:
        raise InputError(
            "--enbl_multi_gpu must be false: training in several processes is not built yet. Received: true"
        )
    return SingleWorker()
