"""What the programs beside this share: each check is a function of the workers, and its result goes to a file."""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from utils.workers import HorovodWorkers, Workers

DIRECTORY = Path(os.environ["TRIMFLOW_TEST_DIRECTORY"])


def main(*checks: Callable[[Workers], Any]) -> None:
    """Runs the checks in the order given, which is the same on all ranks."""
    workers = HorovodWorkers(timeout=60)
    found = {}
    for check in checks:
        keras.utils.set_random_seed(0)
        try:
            began = time.perf_counter()
            found[check.__name__] = check(workers)
            print(check.__name__, f"{time.perf_counter() - began:.1f} s", flush=True)
        except Exception:
            traceback.print_exc()
            sys.exit(1)
    (DIRECTORY / f"rank_{workers.rank}.json").write_text(json.dumps(found))
