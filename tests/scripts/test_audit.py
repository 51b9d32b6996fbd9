"""scripts/audit.sh with a stand-in for pip-audit: it says what is known, and never stops anybody."""

import json
import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"

SAFE = {"name": "numpy", "version": "2.0.0", "vulns": []}
WEAK = {
    "name": "keras",
    "version": "3.0.0",
    "vulns": [{"id": "CVE-2025-1550", "fix_versions": ["3.9.0"]}, {"id": "PYSEC-1", "fix_versions": []}],
}
UNKNOWN = {"name": "ours", "skip_reason": "Dependency not found"}


@pytest.fixture
def audit(tmp_path):
    """`audit(commands)`: what is printed where pip-audit is a program of these commands."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "a.lock").write_text("numpy==2.0.0\n")

    def run(commands: str, seconds: int = 60) -> list[str]:
        program = tmp_path / "bin/pip-audit"
        program.write_text(f'#!/usr/bin/env bash\necho "$*" >"{tmp_path}/asked"\n{commands}\n')
        program.chmod(0o755)
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        result = subprocess.run(
            [SCRIPTS / "audit.sh", tmp_path / "a.lock"],
            env=os.environ | {"PATH": path, "TRIMFLOW_AUDIT_SECONDS": str(seconds)},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert result.returncode == 0
        assert result.stderr == ""
        lines = result.stdout.splitlines()
        assert all(line.startswith("audit: ") for line in lines)
        return [line.removeprefix("audit: ") for line in lines]

    return run


def answering(*packages) -> str:
    """Commands that write the answer where they are told to, and end as pip-audit does."""
    code = 1 if any(package.get("vulns") for package in packages) else 0
    answer = json.dumps({"dependencies": packages})
    return f"while [[ $1 != --output ]]; do shift; done\necho '{answer}' >$2; exit {code}"


def test_what_is_known_is_said_package_by_package(audit, tmp_path):
    assert audit(answering(SAFE, WEAK, UNKNOWN)) == [
        "keras 3.0.0: CVE-2025-1550, fixed in 3.9.0",
        "keras 3.0.0: PYSEC-1, fixed in no version",
        "2 of 3 packages of a.lock are known to the service, 1 of these with known vulnerabilities",
    ]
    asked = (tmp_path / "asked").read_text()
    assert f"--requirement {tmp_path / 'a.lock'} --disable-pip --no-deps" in asked


def test_where_nothing_is_known_to_be_wrong_it_says_so(audit):
    assert audit(answering(SAFE)) == [
        "1 of 1 packages of a.lock are known to the service, none of these with known vulnerabilities"
    ]


def test_a_service_that_knows_no_package_is_no_good_news(audit):
    assert audit(answering(UNKNOWN)) == [
        "0 of 1 packages of a.lock are known to the service, so nothing is known of them"
    ]


def test_a_service_that_cannot_be_reached_is_one_line(audit):
    assert audit("echo 'Traceback' >&2; echo 'ConnectionError: no such host' >&2; exit 1") == [
        "the vulnerability service cannot be asked about a.lock, so nothing is known: ConnectionError: no such host"
    ]
    assert audit('while [[ "$1" != --output ]]; do shift; done; echo "{" >"$2"; exit 1') == [
        "the vulnerability service cannot be asked about a.lock, so nothing is known: no answer within 60 s"
    ]


def test_a_service_that_does_not_answer_is_not_waited_for(audit):
    assert audit("exec sleep 100", seconds=2) == [
        "the vulnerability service cannot be asked about a.lock, so nothing is known: no answer within 2 s"
    ]
