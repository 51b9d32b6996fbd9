# Functions shared by the scripts beside this file; sourced, never run.
# shellcheck shell=bash

unset CDPATH # it would send `cd` elsewhere

# Repository root, free of symbolic links.
repo_root="$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
readonly repo_root
readonly venv_python="$repo_root/.venv/bin/python"

# fail MESSAGE...: one line on stderr, exit code 2.
fail() {
    printf '%s: error: %s\n' "${0##*/}" "$*" >&2
    exit 2
}

# list_gpus: one line `index, memory used, memory total, utilisation` (MiB, MiB, percent) for each NVIDIA GPU; nothing
# where there is none or its driver does not answer.
list_gpus() {
    command -v nvidia-smi >/dev/null || return 0
    local table
    table="$(timeout 20 nvidia-smi --query-gpu=index,memory.used,memory.total,utilization.gpu \
        --format=csv,noheader,nounits 2>/dev/null)" || return 0
    grep -E '^[0-9]+ *,' <<<"$table" || true
}

# venv_variant GPUS: `gpu` where list_gpus printed something, else `cpu`; an image (docker/Dockerfile) has its variant
# made, whatever GPUs it runs with, and says in TRIMFLOW_VARIANT which.
venv_variant() {
    if [[ -n "${TRIMFLOW_VARIANT:-}" ]]; then
        echo "$TRIMFLOW_VARIANT"
    elif [[ -n "$1" ]]; then
        echo gpu
    else
        echo cpu
    fi
}

# venv_stamp VARIANT: what a finished .venv of that variant says of itself.
venv_stamp() {
    local sum
    sum="$(sha256sum <"$repo_root/requirements/$1.lock")"
    printf '%s %s\n' "$1" "${sum%% *}"
}

# is_venv_ready VARIANT: whether .venv is finished, of that variant, and made from the lock as it is now.
is_venv_ready() {
    [[ -x "$venv_python" && -f "$repo_root/.venv/trimflow-stamp" ]] &&
        [[ "$(<"$repo_root/.venv/trimflow-stamp")" == "$(venv_stamp "$1")" ]]
}

# idle_gpus GPUS: the indices of those that nobody uses, the emptiest first, one a line. A GPU is idle up to a tenth of
# its memory and of its time; what a driver does not tell ([N/A]) counts as unused.
idle_gpus() {
    awk -F ' *, *' -v limit=10 '
        { used = $2 + 0; total = $3 + 0; busy = $4 + 0 }
        $1 != "" && used * 100 <= total * limit && busy <= limit { print used, $1 }
    ' <<<"$1" | sort -n | cut -d ' ' -f 2
}

# wait_for_idle_gpus NUMBER GPUS: idle_gpus; where fewer are idle than wanted and there, those of two seconds later. The
# utilisation is a mean over the last second or so: a program that has just ended is still in it (seen on an H200).
wait_for_idle_gpus() {
    local gpus="$2" present idle
    present="$(grep -c . <<<"$gpus" || true)"
    idle="$(idle_gpus "$gpus" | grep -c . || true)"
    if ((idle < $1 && $1 <= present)); then
        sleep 2
        gpus="$(list_gpus)"
    fi
    idle_gpus "$gpus"
}

# net_scripts: the net scripts there are, in one line.
net_scripts() {
    (cd -- "$repo_root" && shopt -s nullglob && echo nets/*_run.py)
}

# find_net_script NAME: prints its path, relative to the root where it is below it; NAME is looked up from the caller's
# directory, then from the root.
find_net_script() {
    local found
    for found in "$1" "$repo_root/$1"; do
        if [[ -f "$found" && -r "$found" ]]; then
            found="$(realpath -- "$found")"
            found="${found#"$repo_root"/}"
            if [[ "$found" == -* ]]; then found="./$found"; fi # or it would be taken for a flag
            printf '%s\n' "$found"
            return
        fi
    done
    fail "no such net script. Received: $1. There are: $(net_scripts)"
}

# asks_for_help ARGUMENTS...: whether --help or -h is among them, before a `--`.
asks_for_help() {
    local argument
    for argument in "$@"; do
        if [[ "$argument" == -- ]]; then return 1; fi
        if [[ "$argument" == --help || "$argument" == -h ]]; then return 0; fi
    done
    return 1
}

# check_first_argument ARGUMENTS...: fails, with the usage of the script that asks, unless a net script comes first.
check_first_argument() {
    if (($# == 0)) || [[ "$1" == -* ]]; then
        usage >&2
        fail "the first argument must be a net script. Received: ${1:-nothing}. There are: $(net_scripts)"
    fi
}
