"""Hosts, slots and ranks as users write them."""

import hypothesis
import hypothesis.strategies as st
import pytest

from launchers.hosts import Host, first_slots, host_of_ranks, parse_hostfile, parse_hosts, total_slots
from utils.errors import InputError

NAMES = st.from_regex(r"[a-z0-9_][a-z0-9_.-]{0,20}", fullmatch=True)
HOSTS = st.lists(st.tuples(NAMES, st.integers(1, 9999)), min_size=1, max_size=8, unique_by=lambda pair: pair[0])


def test_hosts_of_an_option():
    assert parse_hosts("host1:2,10.0.0.7:4") == (Host("host1", 2), Host("10.0.0.7", 4))
    assert parse_hosts(" a-b.c_d:1 , localhost:16") == (Host("a-b.c_d", 1), Host("localhost", 16))


def test_hosts_of_a_file_in_both_forms(tmp_path):
    file = tmp_path / "hosts"
    file.write_text("# ours\nhost1 slots=2\n\nhost2:3  # the new one\n\thost3\tslots = 1\r\n")
    assert parse_hostfile(file) == (Host("host1", 2), Host("host2", 3), Host("host3", 1))


def test_ranks_go_to_the_first_hosts_first():
    hosts = (Host("a", 2), Host("b", 1), Host("c", 3))
    assert total_slots(hosts) == 6
    assert host_of_ranks(hosts) == ("a", "a", "b", "c", "c", "c")
    assert first_slots(hosts, 4) == (Host("a", 2), Host("b", 1), Host("c", 1))
    assert first_slots(hosts, 2) == (Host("a", 2),)
    assert first_slots(hosts, 6) == hosts


def test_more_processes_than_slots_are_refused_with_both_numbers():
    with pytest.raises(InputError, match=r"1 to the number of slots, 3 \(a:2,b:1\)\. Received: 4"):
        first_slots((Host("a", 2), Host("b", 1)), 4)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ",",
            "a",
            "a:",
            ":2",
            "a:0",
            "a:-1",
            "a:x",
            "a:1.5",
            "a:01",
            "a:10000",
            "a:²",
            "a:2,",
            "a:2;b:2",
            "a b:2",
        ),
        *("-oProxyCommand=x:2", ".a:1", "$(id):2", "`id`:2", "a;b:2", "a'b:2", "a/b:2", "me@a:2", "::1:2", "ä:1"),
        *("a:2,a:2", "a:2,b:1,A:2", "a" * 300 + ":1", "a:2\nb:2"),
    ],
)
def test_hosts_that_are_none_are_refused_in_one_line(text):
    with pytest.raises(InputError, match="-H takes") as error:
        parse_hosts(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("host1\n", "line 1"),
        ("host1 slots=2\nhost2 slots=0\n", "line 2"),
        ("host1 slots=2 max_slots=4", "line 1"),
        ("-x slots=2", "line 1"),
        ("a slots=1\na:2", "a more than once"),
        ("# nobody\n\n", "names none"),
        ("", "names none"),
    ],
)
def test_hostfiles_that_are_none_are_refused_with_the_line(tmp_path, text, word):
    (tmp_path / "hosts").write_text(text)
    with pytest.raises(InputError, match=word):
        parse_hostfile(tmp_path / "hosts")


def test_hostfiles_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "binary", tmp_path / "missing"):
        with pytest.raises(InputError, match="--hostfile must be a text file"):
            parse_hostfile(path)


@hypothesis.given(HOSTS)
def test_what_is_written_is_what_is_read(pairs):
    hosts = tuple(Host(*pair) for pair in pairs)
    assert parse_hosts(",".join(f"{name}:{slots}" for name, slots in pairs)) == hosts


@hypothesis.given(HOSTS, st.data())
def test_chosen_slots_are_the_first_ranks(pairs, data):
    hosts = [Host(name, slots % 50 + 1) for name, slots in pairs]
    number = data.draw(st.integers(1, total_slots(hosts)))
    chosen = first_slots(hosts, number)
    assert total_slots(chosen) == number
    assert host_of_ranks(chosen) == host_of_ranks(hosts)[:number]


@hypothesis.given(st.text())
def test_any_text_is_hosts_or_an_input_error(text):
    try:
        hosts = parse_hosts(text)
    except InputError:
        return
    assert hosts
    assert all(host.name.isascii() and not host.name.startswith("-") and host.slots > 0 for host in hosts)
