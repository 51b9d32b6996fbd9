"""Rank 1 does something else for a while, in which rank 0 waits for it in vain."""

import json
import time

from reporting import DIRECTORY

from utils.errors import RunError
from utils.workers import HorovodWorkers, telling_of_lost_workers

TIMEOUT, SECONDS = 4, 20


def main() -> None:
    workers = HorovodWorkers(TIMEOUT)
    workers.all_gather(None)
    began, told = time.perf_counter(), "nothing"
    if workers.rank == 1:
        time.sleep(SECONDS)
    try:
        with telling_of_lost_workers(workers, TIMEOUT):
            workers.all_gather(None)
    except RunError as error:
        told = str(error)
    found = {"told": told, "seconds": time.perf_counter() - began}
    (DIRECTORY / f"rank_{workers.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
