"""Jobs that end with their test."""

import itertools

import pytest

from tests.launchers.jobs import Running


@pytest.fixture
def start_running():
    """`start_running(...)`: a Running, which is ended after the test."""
    started = []

    def run(*arguments, **keywords) -> Running:
        started.append(Running(*arguments, **keywords))
        return started[-1]

    yield run
    for running in started:
        running.kill_all()


@pytest.fixture
def start(start_running, tmp_path):
    """`start(options, code, *arguments)`: starts launchers.horovod for ranks that run `python code arguments...`."""
    programs = (tmp_path / f"program_{number}.py" for number in itertools.count())

    def run(options, code, *arguments, **keywords) -> Running:
        path = next(programs)
        path.write_text(code)
        return start_running(options, [str(path), *map(str, arguments)], **keywords)

    return run
