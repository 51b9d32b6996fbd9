#!/usr/bin/env bash
# Checks style and types and runs all tests in two processes, and prints what of the program they went through; makes
# .venv and builds Horovod on first use (without Horovod, tests of several processes are skipped, but in a continuous
# integration it must be there). Arguments, where given, go to pytest, and there is nothing else but its tests:
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
tests=(-m pytest -n 2 --dist worksteal --timeout 300)
if (($# > 0)); then exec "$venv_python" "${tests[@]}" "$@"; fi

# Of a whole run also what the test processes went through; programs that they start are not looked at. SlipCover marks
# the code where it is imported: Python 3.11 would trace every line of Keras too, which took half as long again.
coverage="$(mktemp)"
trap 'rm -f "$coverage"' EXIT
status=0
PYTHONWARNINGS="ignore:Unable to activate pytest branch coverage" "$venv_python" -m slipcover --branch \
    --source compressors,learners,rl_agents --json --out "$coverage" "${tests[@]}" || status=$?
"$venv_python" scripts/print_coverage.py "$coverage" || status=$((status ? status : 1))
exit "$status"
