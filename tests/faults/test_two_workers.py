"""Signals to two processes that train together: both end at the same step, and what they have done is saved."""

import os
import signal

import pytest

from tests.workers.test_whole_runs import FEW, processes_of, started
from tests.workers.two_processes import needs_horovod
from utils.checkpoints import read_checkpoint

pytestmark = needs_horovod

# Neither a checkpoint nor the end comes by itself.
LONG = [*FEW, "--batch_size", "32", "--nb_epochs_rat", "5000", "--save_step", "1000000"]
GOES_ON = "the same command goes on from the last checkpoint"


def wait_for_steps(process):
    """Until it has told twice how far it is; by then it is past its first call."""
    told = 0
    for line in process.stdout:
        told += "dense training:" in line
        if told == 2:
            return
    pytest.fail("it ended")


def test_both_end_at_one_step_whichever_of_them_is_told_and_save_it(tmp_path):
    run_dir, steps = tmp_path / "run", [0]

    def stopped(send):
        process = started(run_dir, LONG)
        wait_for_steps(process)
        send(process)
        printed, _ = process.communicate(timeout=60)
        assert "Traceback" not in printed
        assert "error: another worker" not in printed
        assert not processes_of(run_dir)
        steps.append(read_checkpoint(run_dir / "dense" / "checkpoint.npz").meta["step"])
        assert steps[-1] > steps[-2]
        return process.returncode, printed.splitlines()[-1]

    found = stopped(lambda process: os.kill(processes_of(run_dir)[1], signal.SIGTERM))
    # Both end; whichever is seen first is told.
    told = [(1, f"error: rank {rank} on localhost ended with exit code 143; {GOES_ON}") for rank in (0, 1)]
    assert found in told
    assert stopped(lambda process: process.send_signal(signal.SIGINT)) == (130, f"interrupted: {GOES_ON}")
