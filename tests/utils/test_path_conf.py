from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.errors import InputError
from utils.path_conf import MAX_BYTES, path_conf_flags, read_path_conf

TEMPLATE = Path(__file__).parents[2] / "path.conf.template"


@pytest.fixture
def conf(tmp_path) -> Path:
    return tmp_path / "path.conf"


def test_missing_file_means_all_unset(conf):
    assert read_path_conf(conf) == {}


def test_template_is_valid_and_sets_nothing():
    assert read_path_conf(TEMPLATE) == {}


def test_template_shows_every_kind_of_key():
    shown = {line.split(" = ")[0] for line in TEMPLATE.read_text().splitlines() if " = None" in line}
    assert {"data_dir_local_cifar10", "data_dir_hdfs_cifar10", "data_hdfs_host", "model_http_url"} <= shown
    assert {"data_dir_seven_cifar10", "data_dir_seven_own_model", "data_dir_seven_runs", "image_seven"} <= shown


def test_values_are_read_around_comments_and_spaces(conf):
    conf.write_text(
        "\ufeff# my data\n\n  data_dir_local_cifar10=/data/with space/a=b#c  \r\n"
        "data_hdfs_host = None\nmodel_http_url =\n\tdata_dir_hdfs_cifar10 = /user/me\n"
    )
    assert read_path_conf(conf) == {
        "data_dir_local_cifar10": "/data/with space/a=b#c",
        "data_dir_hdfs_cifar10": "/user/me",
    }


def test_local_directory_starts_at_the_file_or_at_home(conf, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    conf.write_text("data_dir_local_a = data/a\ndata_dir_local_b = ~/b\ndata_dir_hdfs_c = ~/c\n")
    assert read_path_conf(conf) == {
        "data_dir_local_a": str(conf.parent / "data" / "a"),
        "data_dir_local_b": "/home/ann/b",
        "data_dir_hdfs_c": "~/c",
    }


def test_places_in_a_cluster_are_no_paths_of_this_machine(conf):
    lines = {
        "data_dir_seven_cifar10": "pvc:shared/cifar10",
        "data_dir_seven_runs": "~/runs",
        "image_seven": "registry.example.com:5000/team/trimflow:gpu-0123456789ab",
    }
    conf.write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
    assert read_path_conf(conf) == lines


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("data_dir_local_cifar10 /data", r"path\.conf:2: a line must be `key = value`.*'data_dir_local_cifar10 /data'"),
        ("data_dir = /data", r"path\.conf:2: a key must be one of data_dir_local_<dataset>, .*Received: 'data_dir'"),
        ("data_dir_local_ = /data", r"path\.conf:2: a key must be one of"),
        ("data_dir_seven_ = /data", r"path\.conf:2: a key must be one of .*data_dir_seven_runs, image_seven"),
        ("image = trimflow", r"path\.conf:2: a key must be one of"),
        ("= /data", r"path\.conf:2: a key must be one of .*Received: ''"),
        ("[paths]", r"path\.conf:2: a line must be"),
        ("model_http_url = http://b", r"path\.conf:2: a key must be given once\. .*'model_http_url', also in line 1"),
        ("data_hdfs_host = 'name'", r"path\.conf:2: a value must be plain text without quotes.*data_hdfs_host"),
        ("data_hdfs_host = a\0b", r"path\.conf:2: a value must be plain text"),
        ("data_dir_local_a = ~nobody-of-this-name/x", r"no such home directory.*nobody-of-this-name"),
    ],
)
def test_wrong_line_is_named_with_what_is_allowed(conf, line, message):
    conf.write_text(f"model_http_url = http://a\n{line}\n")
    with pytest.raises(InputError, match=message):
        read_path_conf(conf)


def test_file_that_is_no_text_is_an_error(conf):
    conf.write_bytes(b"model_http_url = \xff")
    with pytest.raises(InputError, match="must be UTF-8 text.* at byte 17"):
        read_path_conf(conf)


def test_directory_in_place_of_the_file_is_an_error(conf):
    conf.mkdir()
    with pytest.raises(InputError, match="must be a readable file"):
        read_path_conf(conf)


def test_size_is_bounded(conf):
    conf.write_bytes(b"#" * MAX_BYTES)
    assert read_path_conf(conf) == {}
    conf.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(InputError, match="must be at most 65536 bytes"):
        read_path_conf(conf)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_but_never_crash(tmp_path_factory, data):
    conf = tmp_path_factory.getbasetemp() / "any.conf"
    conf.write_bytes(data)
    try:
        settings = read_path_conf(conf)
    except InputError:
        return
    assert all(key.startswith(("data_", "model_http_url", "image_seven")) for key in settings)


def test_flags_are_those_of_the_data_set():
    settings = {
        "data_dir_local_cifar10": "/c",
        "data_dir_local_ilsvrc12": "/i",
        "data_dir_hdfs_ilsvrc12": "/h",
        "data_hdfs_host": "host:9000",
        "model_http_url": "https://models",
        "data_dir_seven_cifar10": "pvc:data",
        "data_dir_seven_runs": "pvc:runs",
        "image_seven": "trimflow:gpu-1",
    }
    shared = {"data_hdfs_host": "host:9000", "model_http_url": "https://models"}
    assert path_conf_flags(settings, "cifar10") == {"data_dir_local": "/c", **shared}
    assert path_conf_flags(settings, "ilsvrc12") == {"data_dir_local": "/i", "data_dir_hdfs": "/h", **shared}
    assert path_conf_flags({}, "cifar10") == {}
