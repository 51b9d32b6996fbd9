"""What names from files and folders may do to a terminal: nothing."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.printing import printable
from utils.tables import plain_text, titled_table

ATTACKS = ("\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\x08\x08", "\r", "\u202e", "\udcff")


@given(st.text(st.characters(codec=None)))
def test_nothing_that_a_terminal_obeys_is_left(text):
    shown = printable(text)
    assert len(shown) == len(text)
    assert all(c == "\n" or unicodedata.category(c)[0] not in "C" for c in shown)
    assert "\n" not in printable(text, keep="")
    shown.encode("utf-8")


@given(st.text(st.characters(categories=["L", "M", "N", "P", "S", "Zs"])))
def test_what_people_read_stays_as_it_is(text):
    assert printable(text) == text


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_table_shows_names_without_obeying_them(attack):
    def draw(console):
        table = titled_table(f"t{attack}", column_gap=1)
        table.add_column(f"h{attack}")
        table.add_row(f"name{attack} [bold]x[/bold]")
        console.print(table)
        console.print(f"line{attack}")

    shown = plain_text(draw, 80)
    assert attack not in shown
    assert "name\N{REPLACEMENT CHARACTER}" in shown
    assert "[bold]x[/bold]" in shown
    assert printable(shown) == shown


def test_an_error_message_repeats_no_control_characters(run_program):
    error = run_program(["main.py", "nets/\x1b[2Jnone_run.py"], code=2)
    assert "\x1b" not in error
    assert "nets/\N{REPLACEMENT CHARACTER}[2Jnone_run.py" in error
