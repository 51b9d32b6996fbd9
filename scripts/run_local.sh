#!/usr/bin/env bash
# Runs a net script on this machine: makes .venv on first use, picks idle GPUs, starts main.py. path.conf (see
# path.conf.template) is read by main.py itself, so that `python main.py` behaves alike.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

# A GPU is idle up to this share of its memory and of its time, in percent.
readonly idle_percent=10

usage() {
    cat <<'TEXT'
Usage: scripts/run_local.sh NET_SCRIPT [-n=N | --nb_gpus=N] [FLAGS]

  NET_SCRIPT            what to compress, such as nets/resnet_at_cifar10_run.py
  -n=N, --nb_gpus=N     number of idle GPUs to use [1; without a GPU the CPU is used]
  FLAGS                 handed to main.py; relative paths in them start at the repository's root, those of --own_model
                        and --own_data where you stand

The first start makes .venv (Python 3.11, pinned packages). CUDA_VISIBLE_DEVICES, where it is set, chooses the GPUs.

  scripts/run_local.sh nets/resnet_at_cifar10_run.py --learner weight-sparse --ws_prune_ratio 0.9
  scripts/run_local.sh nets/own_model_run.py --own_model my.keras --own_data photos --learner weight-sparse
TEXT
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
            echo "${found#"$repo_root"/}"
            return
        fi
    done
    fail "no such net script. Received: $1. There are: $(net_scripts)"
}

# idle_gpus GPUS: the indices of those that nobody uses, the emptiest first, one a line. What a driver does not tell
# ([N/A]) counts as unused.
idle_gpus() {
    awk -F ' *, *' -v limit="$idle_percent" '
        { used = $2 + 0; total = $3 + 0; busy = $4 + 0 }
        $1 != "" && used * 100 <= total * limit && busy <= limit { print used, $1 }
    ' <<<"$1" | sort -n | cut -d ' ' -f 2
}

# choose_gpus NUMBER GPUS: sets CUDA_VISIBLE_DEVICES to idle GPUs; fails where there are fewer. A choice already made (by
# the user or a batch system) is kept.
choose_gpus() {
    local number="$1" gpus="$2" present idle
    if [[ -n "${CUDA_VISIBLE_DEVICES+set}" ]]; then
        present="$(tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES" | grep -cE '^[^-]' || true)"
        ((number == 1 || number <= present)) ||
            fail "-n must be at most the GPUs in CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES, $present. Received: $number"
        return
    fi
    present="$(grep -c . <<<"$gpus" || true)"
    if ((present == 0)); then
        ((number == 1)) || fail "-n must be at most the number of GPUs: nvidia-smi lists none here. Received: $number"
        return
    fi
    mapfile -t idle < <(idle_gpus "$gpus")
    ((number <= ${#idle[@]})) ||
        fail "too few idle GPUs: this machine has $present, ${#idle[@]} of them idle. Received: $number wanted" \
            "(CUDA_VISIBLE_DEVICES, where set, is used as it is)"
    # nvidia-smi counts in bus order; CUDA alone would count the fastest first.
    export CUDA_DEVICE_ORDER=PCI_BUS_ID
    CUDA_VISIBLE_DEVICES="$(IFS=','; echo "${idle[*]:0:number}")"
    export CUDA_VISIBLE_DEVICES
    echo "run_local: GPU $CUDA_VISIBLE_DEVICES of $present" >&2
}

# start_main ARGUMENTS...: main.py takes the place of this shell, so that Ctrl-C and exit codes are its own.
start_main() {
    # Where --own_model and --own_data are looked up first.
    export TRIMFLOW_CALLER_DIRECTORY="$PWD"
    cd -- "$repo_root"
    export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"
    exec "$venv_python" main.py "$@"
}

show_help() {
    usage
    local variant
    variant="$(venv_variant "$(list_gpus)")"
    if is_venv_ready "$variant"; then
        echo
        start_main --help
    fi
    printf '\nAll flags are listed here too once .venv is there: scripts/setup_venv.sh makes it.\n'
}

main() {
    local number=1 script flags=() argument gpus
    for argument in "$@"; do
        if [[ "$argument" == --help || "$argument" == -h ]]; then
            show_help
            return
        fi
    done
    if (($# == 0)) || [[ "$1" == -* ]]; then
        usage >&2
        fail "the first argument must be a net script. Received: ${1:-nothing}. There are: $(net_scripts)"
    fi
    script="$(find_net_script "$1")"
    shift
    for argument in "$@"; do
        case "$argument" in
            -n | --nb_gpus | -n=* | --nb_gpus=*)
                number="${argument#*=}"
                [[ "$number" =~ ^[1-9][0-9]{0,3}$ ]] ||
                    fail "-n=N and --nb_gpus=N take a number of GPUs, at least 1. Received: $argument"
                ;;
            *) flags+=("$argument") ;;
        esac
    done
    gpus="$(list_gpus)"
    choose_gpus "$number" "$gpus"
    if ((number > 1)); then flags+=(--enbl_multi_gpu); fi
    "$repo_root/scripts/setup_venv.sh" "$(venv_variant "$gpus")"
    start_main "$script" ${flags[@]+"${flags[@]}"}
}

main "$@"
