#!/usr/bin/env bash
# Checks style and types and runs all tests in two processes; makes .venv and builds Horovod on first use (without
# Horovod, tests of several processes are skipped, but in a continuous integration it must be there). Arguments, where
# given, go to pytest, and neither style nor types are checked:
#
#   scripts/run_tests.sh
#   scripts/run_tests.sh tests/compressors -k mask
set -euo pipefail
# Relative paths among the arguments start at the root.
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
cd -- "$repo_root"

scripts/setup_venv.sh
if ! scripts/install_horovod.sh; then
    [[ "${CI:-}" != true ]] || fail "a continuous integration needs Horovod, whose error is above"
    printf 'tests: without Horovod the tests of several processes are skipped\n' >&2
fi
if (($# == 0)); then
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    .venv/bin/mypy
fi
# worksteal keeps a file's tests together until a process runs out of work; no test may take over five minutes.
exec "$venv_python" -m pytest -n 2 --dist worksteal --timeout 300 "$@"
