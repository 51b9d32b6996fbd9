"""What is printed of the coverage of a test run, and when it is an error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import print_coverage
from scripts.print_coverage import Share, file_shares, lines_of, package_shares

ROOT = Path(__file__).parents[2]
BRANCHING = "def f(x):\n    if x:\n        return 1\n    return 2\n"  # 4 statements and 2 branches


def test_a_share_counts_lines_and_branches():
    summary = {"covered_lines": 8, "missing_lines": 2, "covered_branches": 4, "missing_branches": 2}
    (share,) = file_shares({"files": {"a/b.py": {"summary": summary}}})
    assert share == Share("a/b.py", 16, 12)
    assert share.percent == 75.0


def test_a_file_without_statements_lacks_nothing():
    assert Share("a/__init__.py", 0, 0).percent == 100.0


def test_a_package_is_the_sum_of_its_files():
    files = [Share("b/x.py", 10, 5), Share("a/y.py", 4, 4), Share("b/c/z.py", 30, 25)]
    assert package_shares(files) == [Share("a", 4, 4), Share("b", 40, 30)]


def test_files_with_most_left_come_first_and_whole_ones_not_at_all():
    lines = lines_of([Share("a/one.py", 1000, 990), Share("a/two.py", 40, 10), Share("a/three.py", 7, 7)])
    assert [line.split()[1] for line in lines if "/" in line] == ["a/two.py", "a/one.py"]


@pytest.mark.parametrize(("call", "shown", "code"), [("f(1); f(0)", "100.0%", 0), ("f(1)", "66.7%", 1)])
def test_a_measured_run_is_shown_and_fails_below_the_floor(tmp_path, call, shown, code):
    package = tmp_path / "compressors"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "branching.py").write_text(BRANCHING)
    (tmp_path / "run.py").write_text(f"from compressors.branching import f\n{call}\n")
    words = ["-m", "slipcover", "--branch", "--source", "compressors", "--json", "--out", "measured.json", "run.py"]
    # Where this test itself is measured SlipCover would take away what the test processes have written so far.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLIPCOVER_")}
    subprocess.run([sys.executable, *words], cwd=tmp_path, check=True, env=environment)
    script = ROOT / "scripts" / "print_coverage.py"
    told = subprocess.run([sys.executable, script, "measured.json"], cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode == code, told.stderr
    assert f"{shown}  compressors (" in told.stdout


@pytest.mark.parametrize("text", ["", '{"files": {}}'])
def test_a_run_that_measured_nothing_is_an_error(tmp_path, capsys, text):
    file = tmp_path / "measured.json"
    file.write_text(text)
    assert print_coverage.main(str(file)) == 1
    assert "nothing was measured" in capsys.readouterr().err
