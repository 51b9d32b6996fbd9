"""Prints how much of each package the tests went through, by lines and branches, and the files with most that is left.

    print_coverage.py FILE

FILE is SlipCover's report as JSON, which scripts/run_tests.sh has it make. A package below the floor is an error: exit
code 1. What TensorFlow compiles runs as a copy that autograph makes; its lines count only where they also run as they
stand.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

FLOOR = 95.0  # a little below what was measured; raised with it, never lowered
MOST_FILES = 12


class Share(NamedTuple):
    """Lines and branches of a file or a package: how many there are, and how many were gone through."""

    name: str
    possible: int
    covered: int

    @property
    def percent(self) -> float:
        return 100.0 * self.covered / self.possible if self.possible else 100.0

    @property
    def missing(self) -> int:
        return self.possible - self.covered


def file_shares(report: Mapping[str, Any]) -> list[Share]:
    """The files of SlipCover's report."""
    shares = []
    for name, file in report["files"].items():
        found = file["summary"]
        covered = found["covered_lines"] + found.get("covered_branches", 0)
        shares.append(Share(name, covered + found["missing_lines"] + found.get("missing_branches", 0), covered))
    return shares


def package_shares(files: Iterable[Share]) -> list[Share]:
    """The sums over each package, by the first part of the files' names."""
    sums: dict[str, Share] = {}
    for file in files:
        name = file.name.split("/")[0]
        before = sums.get(name, Share(name, 0, 0))
        sums[name] = Share(name, before.possible + file.possible, before.covered + file.covered)
    return sorted(sums.values())


def lines_of(files: list[Share]) -> list[str]:
    """What is printed."""
    worst = sorted((file for file in files if file.missing), key=lambda file: (-file.missing, file.name))[:MOST_FILES]
    lines = ["", f"Lines and branches that the tests went through (each package must reach {FLOOR:g}%):"]
    lines += [f"  {share.percent:5.1f}%  {share.name} ({share.missing:,} left)" for share in package_shares(files)]
    lines += ["Most is left in:"] if worst else []
    return lines + [f"  {share.percent:5.1f}%  {share.name} ({share.missing:,} left)" for share in worst]


def main(file: str) -> int:
    text = Path(file).read_text(encoding="utf-8")
    files = file_shares(json.loads(text)) if text else []
    if not files:
        print("coverage: nothing was measured", file=sys.stderr)
        return 1
    print("\n".join(lines_of(files)), flush=True)
    return int(any(share.percent < FLOOR for share in package_shares(files)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
