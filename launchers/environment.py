"""The environment variables of a job: Horovod writes all that it has on the command line of each process."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from launchers import relay, worker
from utils.caller import VARIABLE as CALLER
from utils.errors import InputError

# Passwords and tokens stay at home: what is not named here does not travel.
NAMES = {
    *("PATH", "HOME", "TMPDIR", "TZ", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "XDG_CACHE_HOME", "NO_COLOR"),
    *("MPLBACKEND", "KERAS_HOME", "XLA_FLAGS", "JAVA_HOME", "CLASSPATH", "SSH_AUTH_SOCK", "KRB5CCNAME"),
}
PREFIXES = (
    *("HOROVOD_", "GLOO_", "NCCL_", "CUDA_", "NVIDIA_", "TF_", "TRIMFLOW_", "PYTHON", "LC_", "HADOOP_"),
    *("OMP_", "OPENBLAS_", "MKL_", "KMP_", "GOMP_"),
)
# Horovod's for one process: these are of a job around this one, if there are any.
OF_ONE_PROCESS = {
    *("HOROVOD_RANK", "HOROVOD_LOCAL_RANK", "HOROVOD_CROSS_RANK", "HOROVOD_HOSTNAME", "HOROVOD_SECRET_KEY"),
    *("HOROVOD_SIZE", "HOROVOD_LOCAL_SIZE", "HOROVOD_CROSS_SIZE", "HOROVOD_GLOO_IFACE"),
    *("HOROVOD_GLOO_RENDEZVOUS_ADDR", "HOROVOD_GLOO_RENDEZVOUS_PORT"),
}


def job_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that all processes of a job get."""
    chosen = {
        name: value
        for name, value in environment.items()
        if (name in NAMES or name.startswith(PREFIXES)) and name not in OF_ONE_PROCESS
    }
    chosen[CALLER] = chosen.get(CALLER) or str(Path.cwd())
    chosen["PYTHONUNBUFFERED"] = "1"
    chosen.pop(worker.INTERFACE, None)
    return chosen


def ssh_environment(port: int | None, identity_file: Path | None) -> dict[str, str]:
    """What launchers.relay reads; InputError where there is no ssh."""
    ssh = shutil.which("ssh")
    if not ssh:
        raise InputError("other machines are reached by ssh, which is not on PATH: on Debian, apt-get install ssh")
    return {
        relay.SSH: ssh,
        relay.PORT: str(port or ""),
        relay.IDENTITY_FILE: str(identity_file or ""),
        "TRIMFLOW_PYTHON": sys.executable,
    }
