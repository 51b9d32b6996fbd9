"""What all tests share: few threads, a cache of their own, and the same random numbers every time."""

import os
import signal
import sys
from pathlib import Path

import hypothesis
import pytest

# Read when TensorFlow and the BLAS libraries are first loaded, so set before any test module is. The test processes run
# side by side, and child processes inherit all of it.
for _name, _value in {
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "MPLBACKEND": "agg",
}.items():
    os.environ.setdefault(_name, _value)

# No time limit for an example: the first one may load a library. Continuous integration sees the same examples always.
hypothesis.settings.register_profile("trimflow", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("trimflow")


@pytest.fixture(scope="session", autouse=True)
def _shared_cache(tmp_path_factory, worker_id):
    """An XDG_CACHE_HOME for this test run, the same in all of its processes: the embedded data set is made once."""
    base = tmp_path_factory.getbasetemp()
    cache = (base if worker_id == "master" else base.parent) / "cache"
    cache.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        yield


@pytest.fixture(autouse=True)
def _same_random_numbers():
    """Seeds what layers without a seed of their own draw from."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)


@pytest.fixture(autouse=True, scope="module")
def _forget_gradients():
    """Takes back the gradient functions that Keras' own training loop registered, and with them whole networks.

    TensorFlow keeps them as long as a process lives: those of the tests grew to five gigabytes.
    """
    yield
    if "tensorflow" in sys.modules:
        from tensorflow.python.framework.ops import gradient_registry

        for name in [name for name in gradient_registry.list() if name.startswith("CustomGradient")]:
            del gradient_registry._registry[name]


@pytest.fixture
def without_pages(monkeypatch):
    """Runs in this process leave no pages and none of the pages' pictures: a quarter of what a tiny run takes."""
    from export.report import write_report

    monkeypatch.setattr("learners.reporting.write_pages", lambda report, _, run_dir, __: write_report(run_dir, report))


@pytest.fixture
def run_program(monkeypatch, capsys):
    """`run(arguments, code)`: runs the program in this process; returns its output, or with a code but 0 its errors."""
    import main

    monkeypatch.chdir(Path(main.__file__).parent)
    monkeypatch.setattr(sys, "path", list(sys.path))
    handler = signal.getsignal(signal.SIGTERM)

    def run(arguments, code=0):
        with pytest.raises(SystemExit) as stop:
            main.run(arguments)
        printed = capsys.readouterr()
        assert stop.value.code == code, printed.err[-3000:]
        assert "Traceback" not in printed.err
        return printed.err if code else printed.out

    yield run
    signal.signal(signal.SIGTERM, handler)
