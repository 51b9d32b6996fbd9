from dataclasses import dataclass

import pytest
from absl import flags as absl_flags

from utils.errors import InputError
from utils.flags import check_config, define_flags, flag, help_text, read_flags, result_flags


@dataclass(frozen=True)
class Config:
    """Group title"""

    ratio: float = flag(0.5, "a share", name="ws_ratio", minimum=0, maximum=1)
    rate: float = flag(0.1, "a rate", above=0)
    steps: int = flag(3, "a count", minimum=1)
    kind: str = flag("a", "a choice", choices=("a", "b"))
    verbose: bool = flag(False, "a switch", affects_result=False)


def _read(*words):
    values = absl_flags.FlagValues()
    define_flags([Config], values)
    values(["program", *words])
    return read_flags(Config, values)


def test_defaults_are_those_of_the_dataclass():
    assert _read() == Config()


def test_flags_use_their_historic_names():
    assert _read("--ws_ratio=0.25", "--steps", "7", "--kind=b", "--verbose") == Config(0.25, 0.1, 7, "b", True)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--ws_ratio=1.5", "--ws_ratio must be at least 0 and at most 1. Received: 1.5"),
        ("--ws_ratio=nan", "--ws_ratio must be a finite number"),
        ("--rate=0", "--rate must be above 0. Received: 0.0"),
        ("--steps=0", "--steps must be at least 1. Received: 0"),
        ("--kind=c", "--kind must be one of a, b. Received: 'c'"),
    ],
)
def test_a_value_out_of_range_is_one_clear_error(word, message):
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        _read(word)


def test_bounds_hold_in_code_too():
    with pytest.raises(InputError, match="ws_ratio"):
        check_config(Config(ratio=-0.1))


def test_help_shows_group_flag_text_choices_and_default():
    text = help_text([Config])
    assert text.startswith("Group title\n")
    for part in ("--ws_ratio", "a share", "[0.5]", "(a | b)", "[false]"):
        assert part in text


def test_flags_that_do_not_affect_the_result_are_left_out_of_the_identity():
    assert result_flags(Config()) == {"ws_ratio": 0.5, "rate": 0.1, "steps": 3, "kind": "a"}
