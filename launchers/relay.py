"""ssh as horovodrun calls it (launchers/bin/ssh stands first on its PATH), made to notice and to tell what happens.

A cut link is noticed within 30 s. When Horovod wants the processes of a job to end it sends SIGTERM, which would end
ssh alone: instead we close the standard input of the supervisor at the other end, which then ends its rank, and wait.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping

from launchers.processes import die_with_parent, end_with_parent

SSH = "TRIMFLOW_SSH"  # the real program
PARENT = "TRIMFLOW_RELAY_PARENT"  # the shell of launchers/bin/ssh
PORT, IDENTITY_FILE = "TRIMFLOW_SSH_PORT", "TRIMFLOW_SSH_IDENTITY_FILE"
# ssh takes the first value that it is given for an option: these go before Horovod's and those of ~/.ssh/config.
OPTIONS = (
    "BatchMode=yes",
    "ConnectTimeout=10",
    "ServerAliveInterval=10",
    "ServerAliveCountMax=3",
    "StrictHostKeyChecking=accept-new",
    "ControlMaster=no",
    "ControlPath=none",
    "ClearAllForwardings=yes",
    "ForwardX11=no",
    "ForwardAgent=no",
    "RequestTTY=no",
    "LogLevel=ERROR",
)


def ssh_command(environment: Mapping[str, str]) -> list[str]:
    """ssh with our options and those of the user; host and command are to be appended."""
    command = [environment[SSH]]
    for option in OPTIONS:
        command += ["-o", option]
    if environment.get(PORT):
        command += ["-p", environment[PORT]]
    if environment.get(IDENTITY_FILE):
        command += ["-i", environment[IDENTITY_FILE], "-o", "IdentitiesOnly=yes"]
    return command


def main(words: list[str]) -> int:
    """Runs ssh; its exit code."""
    die_with_us = die_with_parent(signal.SIGKILL)

    def prepare() -> None:
        die_with_us()
        # The signals are for this process; it tells the other end, and ssh must stay to hear the answer.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    # Not before a signal can be handled, not after one: it waits until the child is there.
    signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    child = subprocess.Popen(
        [*ssh_command(os.environ), *words],
        stdin=subprocess.PIPE,
        preexec_fn=prepare,
    )

    def stop(*_: object) -> None:
        assert child.stdin is not None
        if not child.stdin.closed:
            child.stdin.close()

    for number in signals:
        signal.signal(number, stop)
    end_with_parent(signal.SIGTERM, int(os.environ[PARENT]))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
