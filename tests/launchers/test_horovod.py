"""The command line of launchers.horovod, and what the processes of a job inherit."""

import pytest

from launchers import horovod
from launchers.environment import job_environment
from tests.launchers.jobs import needs_horovod

NET = "nets/lenet_at_cifar10_run.py"


@pytest.fixture
def refused(capsys, monkeypatch):
    """`refused(words)`: the one line on stderr of a command line that must end with exit code 2."""
    monkeypatch.setenv("TRIMFLOW_CALLER_DIRECTORY", "/")

    def run(*words: str) -> str:
        assert horovod.main(list(words)) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("error: ")
        assert printed.err.count("\n") == 1
        return printed.err

    return run


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-n=0"], "-n must be a whole number from 1 to 9999. Received: '0'"),
        (["-n=x"], "Received: 'x'"),
        (["-n=²"], "Received: '²'"),
        ([], "-n=N, -H=HOSTS or --hostfile=FILE is needed"),
        (["-H=a:0"], "slots is a whole number from 1 to 9999"),
        (["-H=$(touch x):1"], "Received: '$(touch x):1'"),
        (["-H=-oProxyCommand=x:1"], "a host's name has"),
        (["-H=a:2,b:1", "-n=4"], "number of slots, 3 (a:2,b:1). Received: 4"),
        (["-H=a:2", "--hostfile=f"], "not allowed with"),
        (["--hostfile=no/such/file"], "there is no /no/such/file"),
        (["-H=a:1", "--ssh_port=70000"], "--ssh_port must be a whole number from 1 to 65535"),
        (["-H=a:1", "--ssh_identity_file=no_key"], "there is no /no_key"),
        (["-H=a:1", "--wait_for_hosts=-1"], "--wait_for_hosts must be"),
        (["-n=1", "--verbose"], "unrecognized arguments: --verbose"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(refused, options, words):
    assert words in refused(*options, "--", NET)


def test_mistakes_in_the_flags_are_found_before_anything_starts(refused):
    assert "--learner must be one of" in refused("-n=2", "--", NET, "--learner", "none")
    assert "no_such" in refused("-n=2", "--", NET, "--no_such")
    assert "nets/none_run.py" in refused("-n=2", "--", "nets/none_run.py")
    assert "a net script is needed" in refused("-n=2")


@needs_horovod
def test_an_interface_that_is_not_there_is_refused(refused):
    words = refused("-n=1", "--network_interface=eth77", "--", NET, "--learner", "full-prec")
    assert "--network_interface must be one of this machine" in words


def test_where_horovod_is_missing_the_script_is_named(refused, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    assert "scripts/install_horovod.sh builds it" in refused("-n=1", "--", NET, "--learner", "full-prec")


def test_what_is_not_known_to_be_harmless_does_not_travel():
    kept = {"PATH": "/bin", "HOME": "/h", "LC_ALL": "C", "TF_CPP_MIN_LOG_LEVEL": "2", "NCCL_DEBUG": "INFO"}
    kept |= {"CUDA_VISIBLE_DEVICES": "1", "HOROVOD_CYCLE_TIME": "2", "TRIMFLOW_CALLER_DIRECTORY": "/here"}
    dropped = ("AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "https_proxy", "PASSWORD", "HOROVOD_SECRET_KEY", "HOROVOD_RANK")
    dropped += ("SSH_CONNECTION", "OMPI_MCA_plm_rsh_agent", "BASH_FUNC_x%%", "TRIMFLOW_NETWORK_INTERFACE")
    given = kept | dict.fromkeys(dropped, "secret")
    assert job_environment(given).items() >= kept.items()
    assert not set(job_environment(given)) & set(dropped)
