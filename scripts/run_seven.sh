#!/usr/bin/env bash
# Runs a net script on a Kubernetes cluster ("seven" mode): makes .venv on first use and hands the command to
# launchers/seven.py, which writes a Kubeflow MPIJob, applies it with kubectl and follows its log.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<'TEXT'
Usage: scripts/run_seven.sh NET_SCRIPT [-n=N] [-j=NAME] [--image IMAGE] [--namespace NAMESPACE] [OPTIONS] [FLAGS]

  NET_SCRIPT            what to compress, such as nets/resnet_at_cifar10_run.py
  -n=N, --nb_gpus=N     number of processes, one on each GPU [1]
  -j=NAME               name of the job [made from net script, learner and a hash of the flags]
  --image IMAGE         what scripts/run_docker.sh built, pushed to where the cluster pulls from [path.conf: image_seven]
  --namespace NAME      namespace of the cluster [the one kubectl is set to]
  --gpus_per_node=G     GPUs of a node, at most so many processes go into one worker pod [8]
  --cpus_per_node=C     no GPUs: at most C processes in a worker pod, with a CPU for each
  --retries=R           how often a failed run is started again, to go on from its checkpoint [3]
  --dry_run             print the manifest, and do nothing; needs neither kubectl nor a cluster
  FLAGS                 handed to main.py; after a word -- all are, so `-- --dry_run` is main.py's own

path.conf (see path.conf.template) says where the cluster has the data (data_dir_seven_<dataset>, mounted at /data) and
keeps what a run leaves (data_dir_seven_runs, mounted at runs, models and logs). Paths in FLAGS are those of the pods.
The cluster must have the MPI operator (kubeflow.org/v2beta1). The same command again follows the job, or goes on with one
that has ended.

  scripts/run_seven.sh nets/resnet_at_cifar10_run.py -n=16 --learner weight-sparse --ws_prune_ratio 0.9

Exit code: 0 the job succeeded, 1 it failed, 2 a mistake, 130 Ctrl-C (the job goes on).
TEXT
}

main() {
    local script
    if asks_for_help "$@"; then
        usage
        return
    fi
    check_first_argument "$@"
    script="$(find_net_script "$1")"
    shift
    "$repo_root/scripts/setup_venv.sh" "$(venv_variant "$(list_gpus)")"
    cd -- "$repo_root"
    # Signals and exit codes are those of the Python program.
    exec "$venv_python" -m launchers.seven "$script" "$@"
}

main "$@"
