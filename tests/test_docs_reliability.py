"""Each test that docs/reliability.md and docs/determinism.md name as holding a promise is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"`(tests/[\w/]*(?:\.py)?)(?:::(\w+))?`")


def named_tests(page):
    return sorted({match.groups() for match in NAMED.finditer((ROOT / "docs" / page).read_text())}, key=str)


@pytest.mark.parametrize(("page", "at_least"), [("reliability.md", 50), ("determinism.md", 5)])
def test_the_tests_that_a_page_names_are_there(page, at_least):
    named = named_tests(page)
    assert len(named) >= at_least
    for path, test in named:
        assert (ROOT / path).exists(), path
        if test:
            functions = {node.name for node in ast.parse((ROOT / path).read_text()).body if hasattr(node, "name")}
            assert test in functions, f"{path}::{test}"
