#!/usr/bin/env bash
# Runs a net script in one process or many, on this machine or several: makes .venv and Horovod on first use, picks idle
# GPUs, starts main.py, or launchers.horovod for more than one process. path.conf (see path.conf.template) is read by
# main.py itself, so that `python main.py` behaves alike.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<'TEXT'
Usage: scripts/run_local.sh NET_SCRIPT [-n=N] [-H HOSTS | --hostfile FILE] [FLAGS]

  NET_SCRIPT            what to compress, such as nets/resnet_at_cifar10_run.py
  -n=N, --nb_gpus=N     number of processes, each on an idle GPU of its own, or without GPUs on the CPU's cores [1; with
                        hosts all of their slots]
  -H HOSTS              machines and how many processes each takes: host1:2,host2:2; this one is localhost. Others are
                        reached by ssh without a password and have the repository and .venv at the same path
  --hostfile FILE       the same as a file with a line `host1 slots=2` or `host1:2` for each
  --wait_for_hosts=S    seconds to wait for hosts that do not answer yet [0]
  --ssh_port=P, --ssh_identity_file=F, --network_interface=NAME
                        where ssh and the machines' network need to be told
  FLAGS                 handed to main.py; relative paths in them start at the repository's root, those of --own_model,
                        --own_data and --keras_weights where you stand

The first start makes .venv (Python 3.11, pinned packages), the first one of several processes builds Horovod for it.
CUDA_VISIBLE_DEVICES, where it is set, chooses the GPUs.

  scripts/run_local.sh nets/resnet_at_cifar10_run.py --learner weight-sparse --ws_prune_ratio 0.9
  scripts/run_local.sh nets/own_model_run.py --own_model my.keras --own_data photos --learner weight-sparse
  scripts/run_local.sh nets/resnet_at_cifar10_run.py -H host1:2,host2:2 --learner weight-sparse
TEXT
}

# choose_gpus NUMBER GPUS: sets CUDA_VISIBLE_DEVICES to idle GPUs; fails where there are fewer. A choice already made (by
# the user or a batch system) is kept; a choice of none, like a machine without GPUs, means the CPU's cores.
choose_gpus() {
    local number="$1" gpus="$2" present idle
    if [[ -n "${CUDA_VISIBLE_DEVICES+set}" ]]; then
        present="$(tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES" | grep -cE '^[^-]' || true)"
        if ((present > 0 && number > present)); then
            fail "-n must be at most the GPUs in CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES, $present. Received: $number"
        fi
        if ((present > 0)); then return; fi
    else
        present="$(grep -c . <<<"$gpus" || true)"
    fi
    if ((present == 0)); then
        ((number <= $(nproc))) ||
            fail "-n must be at most the number of cores, $(nproc), where there are no GPUs (-H localhost:$number" \
                "starts as many nevertheless). Received: $number"
        return
    fi
    mapfile -t idle < <(wait_for_idle_gpus "$number" "$gpus")
    ((number <= ${#idle[@]})) ||
        fail "too few idle GPUs: this machine has $present, ${#idle[@]} of them idle. Received: $number wanted" \
            "(CUDA_VISIBLE_DEVICES, where set, is used as it is)"
    # nvidia-smi counts in bus order; CUDA alone would count the fastest first.
    export CUDA_DEVICE_ORDER=PCI_BUS_ID
    CUDA_VISIBLE_DEVICES="$(IFS=','; echo "${idle[*]:0:number}")"
    export CUDA_VISIBLE_DEVICES
    echo "run_local: GPU $CUDA_VISIBLE_DEVICES of $present" >&2
}

# start ARGUMENTS...: Python takes the place of this shell at the root, so that Ctrl-C and exit codes are its own.
start() {
    # Where --own_model, --own_data and --keras_weights are looked up first.
    export TRIMFLOW_CALLER_DIRECTORY="$PWD"
    cd -- "$repo_root"
    export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"
    exec "$venv_python" "$@"
}

show_help() {
    usage
    local variant
    variant="$(venv_variant "$(list_gpus)")"
    if is_venv_ready "$variant"; then
        echo
        start main.py --help
    fi
    printf '\nAll flags are listed here too once .venv is there: scripts/setup_venv.sh makes it.\n'
}

# read_arguments ARGUMENTS...: sorts what follows the net script into $number, $options (of launchers.horovod), $flags.
read_arguments() {
    local argument
    while (($# > 0)); do
        argument="$1"
        shift
        case "$argument" in
            -n | --nb_gpus | -n=* | --nb_gpus=*)
                number="${argument#*=}"
                [[ "$number" =~ ^[1-9][0-9]{0,3}$ ]] ||
                    fail "-n=N and --nb_gpus=N take a number of processes, at least 1. Received: $argument"
                ;;
            -H | --hostfile)
                (($# > 0)) || fail "$argument takes a value. Received: nothing"
                set -- "$argument=$1" "${@:2}"
                ;;
            -H=* | --hostfile=*)
                ((! has_hosts)) || fail "-H or --hostfile can be given once. Received: $argument as well"
                has_hosts=1
                options+=("$argument")
                ;;
            --wait_for_hosts=* | --ssh_port=* | --ssh_identity_file=* | --network_interface=*) options+=("$argument") ;;
            *) flags+=("$argument") ;;
        esac
    done
    ((has_hosts || ${#options[@]} == 0)) || fail "-H or --hostfile is needed with ${options[0]%%=*}. Received: neither"
}

main() {
    local number="" script options=() flags=() has_hosts=0 gpus variant
    if asks_for_help "$@"; then
        show_help
        return
    fi
    check_first_argument "$@"
    script="$(find_net_script "$1")"
    shift
    read_arguments "$@"
    gpus="$(list_gpus)"
    variant="$(venv_variant "$gpus")"
    if ((! has_hosts)); then choose_gpus "${number:-1}" "$gpus"; fi
    "$repo_root/scripts/setup_venv.sh" "$variant"
    if ((! has_hosts && ${number:-1} == 1)); then
        start main.py "$script" ${flags[@]+"${flags[@]}"}
    fi
    "$repo_root/scripts/install_horovod.sh" "$variant"
    start -m launchers.horovod ${number:+"-n=$number"} ${options[@]+"${options[@]}"} -- \
        "$script" ${flags[@]+"${flags[@]}"}
}

main "$@"
