import os
import shutil

import pytest

from tests.full_disk import no_file_above
from utils.errors import RunError
from utils.files import append_line, make_directory, unwatch, watch, write_json, write_text


def test_a_line_that_does_not_fit_is_one_clear_error(tmp_path):
    log = tmp_path / "search.jsonl"
    append_line(log, "first")
    with no_file_above(10), pytest.raises(RunError, match=r"cannot write .*search\.jsonl: File too large"):
        append_line(log, "second line")
    assert log.read_text().startswith("first\n")


def test_a_file_in_the_place_of_a_directory_is_named(tmp_path):
    (tmp_path / "plots").write_text("")
    with pytest.raises(RunError, match=r"cannot write .*plots: (File exists|Not a directory)"):
        write_text(tmp_path / "plots" / "search.png", "")


@pytest.fixture
def watched(tmp_path):
    directory = tmp_path / "run"
    directory.mkdir()
    watch(directory)
    yield directory
    unwatch(directory)


def _writers(directory):
    return [
        lambda: write_json(directory / "stages.json", {}),
        lambda: write_text(directory / "training" / "new.txt", ""),
        lambda: append_line(directory / "search.jsonl", "{}"),
        lambda: make_directory(directory / "plots"),
    ]


def test_in_a_watched_directory_files_are_written_as_elsewhere(watched):
    for write in _writers(watched):
        write()
    names = {path.name for path in watched.iterdir()}
    assert names == {"stages.json", "training", "search.jsonl", "plots"}


def test_a_watched_directory_that_was_deleted_is_not_made_again(watched):
    shutil.rmtree(watched)
    for write in _writers(watched):
        with pytest.raises(RunError, match=f"{watched} was deleted, moved or replaced"):
            write()
    assert not watched.exists()


def test_another_directory_in_the_place_of_a_watched_one_is_not_written_to(watched):
    watched.rename(watched.with_name("moved"))
    watched.mkdir()
    for write in _writers(watched):
        with pytest.raises(RunError, match=f"{watched} was deleted, moved or replaced"):
            write()
    assert not os.listdir(watched)


def test_a_directory_that_is_deleted_while_a_file_is_written_gets_no_file(watched):
    with pytest.raises(RunError, match="was deleted, moved or replaced|cannot write"):
        write_in_vain(watched)
    assert not watched.exists()


def write_in_vain(directory):
    from utils.files import write_atomically

    def write(temporary):
        temporary.write_text("half")
        shutil.rmtree(directory)

    write_atomically(directory / "model.keras", write)


def test_beside_a_watched_directory_and_after_the_watch_nothing_changes(watched):
    shutil.rmtree(watched)
    write_text(watched.with_name("other") / "file", "")
    unwatch(watched)
    write_text(watched / "file", "")
    assert (watched / "file").exists()
