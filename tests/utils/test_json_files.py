import json
import math

import pytest

from utils.json_files import parse_json, read_json


def test_an_object_is_read_as_it_was_written(tmp_path):
    value = {"a": [1, 0.5, None, True, "é"], "b": {"c": {}}}
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert read_json(tmp_path / "a.json") == value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Expecting value"),
        (b'{"a": 1', "Expecting"),
        (b'{"a": 1}{', "Extra data"),
        (b"\xff\xfe{", "utf-8"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b"[1]", "must hold names and values. Received: list"),
        (b"null", "must hold names and values. Received: NoneType"),
        (b'{"a": NaN}', "NaN is no finite number"),
        (b'{"a": 1e999}', "1e999 is no finite number"),
        (b'{"a": ' + b"9" * 5000 + b"}", "9999... is too large a number"),
        (b'{"a": 1' + b"0" * 310 + b"}", "0000... is too large a number"),  # which no float is
        (b'{"a": 1, "a": 2}', "has a name twice"),
    ],
)
def test_what_is_damaged_is_a_value_error_that_says_how(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "a.json")


def test_numbers_that_are_not_finite_may_be_allowed():
    assert parse_json('{"a": -Infinity}', only_finite=False) == {"a": -math.inf}
