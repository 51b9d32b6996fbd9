#!/usr/bin/env bash
# Runs a net script in a container: like run_local.sh, but nothing is installed on this machine except Docker. The image
# of this commit is built from docker/Dockerfile where it is missing.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

# Where the repository is in an image.
readonly image_root=/opt/trimflow
# Folders of the checkout that the container writes to.
readonly kept_folders=(runs models logs)
# Below these a mount adds something; at them it would hide what the container needs.
readonly containers_own=(
    / /bin /dev /dev/shm /etc /home /home/trimflow /lib /lib64 /opt "$image_root" "$image_root/.venv" /proc /root /run /sbin
    /sys /tmp /usr /usr/bin /usr/lib /usr/lib64 /usr/libexec /usr/local /usr/local/bin /usr/local/lib /usr/sbin /usr/share
    /var /var/lib /var/tmp
)
# What --own_model takes in place of a file: module:function.
readonly function_pattern='^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$'

usage() {
    cat <<'TEXT'
Usage: scripts/run_docker.sh NET_SCRIPT [-n=N | --nb_gpus=N] [--image IMAGE] [--dry_run] [FLAGS] [-- FLAGS]

  NET_SCRIPT            what to compress, such as nets/resnet_at_cifar10_run.py; own ones outside the repository as well
  -n=N, --nb_gpus=N     number of processes, one on each of N idle GPUs; without a GPU they share the CPU [1]
  --image IMAGE         use this image, pulled where it is missing, and build none
  --dry_run             print the commands for a shell, and run nothing; main.py's own --dry_run goes after `--`
  FLAGS                 as run_local.sh takes them; after `--` only files to mount are looked for in them here

Runs, models and logs are kept in runs/, models/ and logs/ of this checkout. Files and folders that FLAGS or path.conf
name are mounted: what is read, read-only. CUDA_VISIBLE_DEVICES, where it is set, chooses the GPUs; empty, the CPU.

  scripts/run_docker.sh nets/resnet_at_cifar10_run.py -n=4 --learner weight-sparse --ws_prune_ratio 0.9
  scripts/run_docker.sh nets/resnet_at_cifar10_run.py --learner scheduled --compress my.yaml -- --dry_run

All flags: scripts/run_local.sh --help
TEXT
}

say() { printf 'run_docker: %s\n' "$*" >&2; }

# What main collects for `docker run`: `source` and `mode` (ro or rw) of each mount by its target, targets in order.
declare -A source_of=() mode_of=()
targets=()
# The words for main.py, and folders to make before the container starts.
words=()
new_folders=()
# Where the container starts; run_local.sh there takes it as the caller's directory.
workdir="$image_root"

# add_mount SOURCE TARGET MODE: what is mounted twice can be written if one of the two can.
add_mount() {
    if [[ -z "${source_of["$2"]+set}" ]]; then targets+=("$2"); fi
    if [[ "${mode_of["$2"]-}" != rw ]]; then mode_of["$2"]="$3"; fi
    source_of["$2"]="$1"
}

# add_users_mount WHAT RECEIVED SOURCE TARGET MODE: add_mount, unless it would hide something of the container.
add_users_mount() {
    local own
    for own in "${containers_own[@]}"; do
        [[ "$4" != "$own" ]] ||
            fail "$1: $own cannot be mounted, the container needs its own: use a folder of yours below it, such as models/" \
                "of the repository. Received: $2"
    done
    add_mount "$3" "$4" "$5"
}

# is_kept PATH: whether a path relative to the repository lies in a folder that is mounted anyway.
is_kept() {
    local folder
    for folder in "${kept_folders[@]}"; do
        if [[ "$1" == "$folder" || "$1" == "$folder"/* ]]; then return; fi
    done
    return 1
}

# mount_path KIND FLAG PATH: mounts what a flag names where the container will look for it, and sets `path` to what the
# flag says there: the same, unless there is `..` in it, which a container without the folders before it cannot follow.
# KIND: input (a file or folder that is read), model (a file that is read if it is there, else written), output (a
# file that is written) or folder (that is written).
mount_path() {
    local kind="$1" flag="$2" received="$3" source target
    path="$received"
    if [[ -z "$path" ]]; then return; fi
    if [[ "/$path/" == */../* ]]; then path="$(cd -- "$repo_root" && realpath --canonicalize-missing -- "$path")"; fi
    if [[ "$path" == /* ]]; then
        source="$path" target="$path"
    else
        source="$repo_root/$path" target="$image_root/$path"
    fi
    # Links in the target are kept, since it is the name that the flag says.
    target="$(realpath --canonicalize-missing --no-symlinks -- "$target")"
    source="$(realpath --canonicalize-missing -- "$source")"
    if [[ "$path" != /* ]] && is_kept "${target#"$image_root"/}"; then return; fi
    if [[ "$kind" == model ]]; then
        if [[ -e "$source" ]]; then kind=input; else kind=output; fi
    fi
    if [[ "$kind" == input ]]; then
        [[ -e "$source" ]] || fail "--$flag must be there. Received: $received"
        add_users_mount "--$flag" "$received" "$source" "$target" ro
        return
    fi
    if [[ "$kind" == output ]]; then
        source="$(dirname -- "$source")"
        target="$(dirname -- "$target")"
    fi
    new_folders+=("$source")
    add_users_mount "--$flag" "$received" "$source" "$target" rw
}

# find_own FLAG NAME: sets `path` to the absolute path of an input of the user's own, which is looked up from the caller's
# directory and then from the root.
find_own() {
    local place name="$2"
    if [[ "$name" =~ ^~(/|$) ]]; then name="$HOME${name:1}"; fi
    for place in "$name" "$PWD/$name" "$repo_root/$name"; do
        if [[ "$place" == /* && -e "$place" ]]; then
            path="$place"
            return
        fi
    done
    fail "--$1 must be there. Received: $2, but it is neither in $PWD nor in $repo_root"
}

# mount_caller WHAT: the caller's directory, whose Python modules are imported, and the container starts there.
mount_caller() {
    workdir="$(pwd -P)"
    if [[ "$workdir" == "$repo_root" ]]; then
        workdir="$image_root"
    else
        add_users_mount "$1" "$workdir" "$workdir" "$workdir" ro
    fi
}

# translate FLAG VALUE: sets `path` to the value in the container, and mounts what is needed for it.
translate() {
    path="$2"
    case "$1" in
        data_dir_local | compress | kd_resume | save_path_eval | save_path_dst) mount_path input "$1" "$2" ;;
        save_path) mount_path model "$1" "$2" ;;
        ws_save_path | ws_paths) mount_path output "$1" "$2" ;;
        run_dir | log_dir) mount_path folder "$1" "$2" ;;
        own_model | own_data)
            if [[ "$1" == own_model && "$2" =~ $function_pattern ]]; then
                mount_caller "--own_model $2"
            elif [[ -n "$2" ]]; then
                find_own "$1" "$2"
                mount_path input "$1" "$path"
            fi
            ;;
        keras_weights)
            if [[ -n "$2" && "$2" != imagenet ]]; then
                find_own "$1" "$2"
                mount_path input "$1" "$path"
            fi
            ;;
        *) return 1 ;;
    esac
}

# translate_words WORDS...: sets `words`, and `given` to the names of flags that decide about the data.
translate_words() {
    local word name
    while (($#)); do
        word="$1"
        shift
        name="${word%%=*}"
        name="${name#-}"
        name="${name#-}"
        if [[ "$word" != -* || "$word" == --- ]]; then
            words+=("$word")
        elif [[ "$word" == *=* ]]; then
            given["$name"]="${word#*=}"
            if translate "$name" "${word#*=}"; then words+=("${word%%=*}=$path"); else words+=("$word"); fi
        elif (($#)) && translate "$name" "$1"; then
            given["$name"]="$1"
            words+=("$word" "$path")
            shift
        else
            if (($#)) && [[ "$name" == data_disk ]]; then given[data_disk]="$1"; fi
            words+=("$word")
        fi
    done
}

# path_conf_value KEY: what path.conf says, or nothing. main.py, which reads it too, complains about mistakes in it.
path_conf_value() {
    local line key value
    while IFS= read -r line || [[ -n "$line" ]]; do
        line="${line#$'\xef\xbb\xbf'}"
        key="$(trim "${line%%=*}")"
        value="$(trim "${line#*=}")"
        if [[ "$line" == *=* && "$key" == "$1" && "$value" != None ]]; then
            echo "$value"
            return
        fi
    done <"$repo_root/path.conf"
}

# trim TEXT: without white space at both ends.
trim() {
    local text="${1#"${1%%[![:space:]]*}"}"
    printf '%s' "${text%"${text##*[![:space:]]}"}"
}

# mount_path_conf NET_SCRIPT: path.conf, and, where no flag says otherwise, the folder of the net script's data set at
# /data/<data set>. With --own_model main.py does not look at it.
mount_path_conf() {
    local dataset="${1##*/}" folder
    if [[ ! -f "$repo_root/path.conf" || -n "${given[own_model]-}" ]]; then return; fi
    add_mount "$repo_root/path.conf" "$image_root/path.conf" ro
    dataset="${dataset%_run.py}"
    dataset="${dataset##*_at_}"
    folder="$(path_conf_value "data_dir_local_$dataset")"
    if [[ -z "$folder" || -n "${given[data_dir_local]+set}" || "${given[data_disk]:-local}" != local ]]; then return; fi
    if [[ "$folder" =~ ^~(/|$) ]]; then folder="$HOME${folder:1}"; fi
    if [[ "$folder" != /* ]]; then folder="$repo_root/$folder"; fi
    [[ -d "$folder" ]] || fail "data_dir_local_$dataset in path.conf must be a directory. Received: $folder"
    add_mount "$(realpath -- "$folder")" "/data/$dataset" ro
    words+=(--data_dir_local "/data/$dataset")
}

# mount_script NET_SCRIPT: the folder of one that the image has not, since it imports what lies beside it.
mount_script() {
    local folder
    folder="$(dirname -- "$1")"
    if [[ "$1" == /* ]]; then
        add_users_mount "the net script's folder" "$1" "$folder" "$folder" ro
    elif [[ "$folder" == . ]]; then
        add_mount "$repo_root/$1" "$image_root/$1" ro
    elif [[ "$folder" != nets ]]; then
        add_mount "$repo_root/$folder" "$image_root/$folder" ro
    fi
}

# check_cores NUMBER: fails where there are fewer cores, as run_local.sh would after the image is built.
check_cores() {
    (($1 <= $(nproc))) || fail "-n must be at most the number of cores, $(nproc), where there are no GPUs. Received: $1"
}

# choose_devices NUMBER: sets `devices` to the GPUs that the container gets, as nvidia-smi counts them, or to nothing. A
# choice already made (by the user or a batch system) is kept.
choose_devices() {
    local number="$1" gpus present chosen idle
    devices=""
    gpus="$(list_gpus)"
    if [[ -z "$gpus" ]]; then
        check_cores "$number"
        return
    fi
    if [[ -n "${CUDA_VISIBLE_DEVICES+set}" ]]; then
        chosen="$CUDA_VISIBLE_DEVICES"
        [[ "$chosen" =~ ^[A-Za-z0-9,/-]*$ ]] ||
            fail "CUDA_VISIBLE_DEVICES must be numbers or names of GPUs. Received: $chosen"
        present="$(tr ',' '\n' <<<"$chosen" | grep -cE '^[^-]' || true)"
        if ((present == 0)); then
            check_cores "$number"
            return
        fi
        ((number <= present)) ||
            fail "-n must be at most the GPUs in CUDA_VISIBLE_DEVICES=$chosen, $present. Received: $number"
        devices="$chosen"
        return
    fi
    present="$(grep -c . <<<"$gpus")"
    mapfile -t idle < <(wait_for_idle_gpus "$number" "$gpus")
    ((number <= ${#idle[@]})) ||
        fail "too few idle GPUs: this machine has $present, ${#idle[@]} of them idle. Received: $number wanted" \
            "(CUDA_VISIBLE_DEVICES, where set, is used as it is; empty, the CPU is used)"
    devices="$(IFS=','; echo "${idle[*]:0:number}")"
    say "GPU $devices of $present"
}

# find_commit: sets `commit` to that of this checkout, with -dirty where files are not as it has them.
find_commit() {
    commit=unknown-dirty
    local changes
    if ! command -v git >/dev/null || ! changes="$(git -C "$repo_root" status --porcelain 2>/dev/null)"; then return; fi
    commit="$(git -C "$repo_root" rev-parse --verify --quiet HEAD)" || { commit=unknown-dirty && return; }
    commit="${commit:0:12}${changes:+-dirty}"
}

# check_engine: fails where Docker is missing or does not answer; sets `security` to what it says of how it isolates.
check_engine() {
    local answer
    command -v docker >/dev/null ||
        fail "the program docker was not found: install Docker Engine (https://docs.docker.com/engine/install), for GPUs" \
            "the NVIDIA Container Toolkit too. Without Docker: scripts/run_local.sh"
    if ! security="$(timeout 60 docker info --format '{{json .SecurityOptions}}' 2>/dev/null)"; then
        answer="$(timeout 60 docker info 2>&1 >/dev/null | grep . | tail -n 1 || true)"
        fail "Docker's engine does not answer: is it running (sudo systemctl start docker), and may you use it (group" \
            "docker)? Received: ${answer:-nothing within a minute}"
    fi
}

# csv TEXT: as a field of a comma-separated line, which --mount takes.
csv() {
    if [[ "$1" == *[,\"$'\n']* ]]; then printf '"%s"' "${1//\"/\"\"}"; else printf '%s' "$1"; fi
}

# make_run_command IMAGE NUMBER NET_SCRIPT: sets `run_command`. The container has a network of its own behind the
# engine's bridge: processes in one container talk over its loopback, and of the host's network only the way out is needed.
make_run_command() {
    local user target field
    user="$(id -u):$(id -g)"
    # Without root's rights for the engine, its root is the caller.
    if [[ "${security-}" == *name=rootless* ]]; then user=0:0; fi
    run_command=(docker run --rm --init --pull=never --user "$user" --shm-size=1g)
    if [[ "${security-}" == *name=userns* ]]; then run_command+=(--userns=host); fi
    if [[ "${security-}" == *name=selinux* ]]; then run_command+=(--security-opt label=disable); fi
    if [[ -t 0 && -t 1 ]]; then run_command+=(--interactive --tty); fi
    if [[ -n "$devices" ]]; then
        # They are counted anew in the container; all of them are meant, idle or not.
        local count
        count="$(tr ',' '\n' <<<"$devices" | grep -c .)"
        run_command+=(--gpus "\"device=$devices\"" --env CUDA_DEVICE_ORDER=PCI_BUS_ID)
        run_command+=(--env "CUDA_VISIBLE_DEVICES=$(seq --separator=, 0 $((count - 1)))")
    fi
    for target in "${targets[@]}"; do
        field="type=bind,$(csv "source=${source_of["$target"]}"),$(csv "target=$target")"
        if [[ "${mode_of["$target"]}" == ro ]]; then field+=,readonly; fi
        run_command+=(--mount "$field")
    done
    run_command+=(--workdir "$workdir" "$1" "$image_root/scripts/run_local.sh" "$3")
    if (($2 > 1)); then run_command+=("-n=$2"); fi
    run_command+=(${words[@]+"${words[@]}"})
}

# quoted WORDS...: one line that a shell takes as these words.
quoted() {
    local line
    printf -v line '%q ' "$@"
    printf '%s\n' "${line% }"
}

# read_options ARGUMENTS...: sets `number`, `image`, `is_dry_run` and `flags` from what follows the net script.
read_options() {
    number=1 image="" is_dry_run="" flags=()
    while (($#)); do
        case "$1" in
            --)
                shift
                flags+=("$@")
                return
                ;;
            -n | --nb_gpus | -n=* | --nb_gpus=*)
                number="${1#*=}"
                [[ "$number" =~ ^[1-9][0-9]{0,3}$ ]] ||
                    fail "-n=N and --nb_gpus=N take a number of processes, at least 1. Received: $1"
                ;;
            --image | --image=*)
                if [[ "$1" == --image ]] && (($# > 1)); then
                    shift
                    image="$1"
                else
                    image="${1#--image}"
                    image="${image#=}"
                fi
                [[ "$image" =~ ^[A-Za-z0-9][^[:space:]]*$ ]] ||
                    fail "--image takes the name of an image. Received: ${image:-nothing}"
                ;;
            --dry_run | --dry_run=true) is_dry_run=yes ;;
            -H | -H=* | --hostfile | --hostfile=*)
                fail "$1 is for scripts/run_local.sh; a cluster has scripts/run_seven.sh, a container is on one machine"
                ;;
            *) flags+=("$1") ;;
        esac
        shift
    done
}

# have_image NAME: whether the engine has it.
have_image() {
    docker image inspect --format '{{.Id}}' "$1" >/dev/null 2>&1
}

# get_image: makes sure that `image` is there, by its commands `pull_command` or `build_command`.
get_image() {
    if ((${#pull_command[@]})); then
        if have_image "$image"; then return; fi
        say "pulling $image"
        "${pull_command[@]}" >&2 ||
            fail "there is no such image here, and it cannot be pulled; what docker says is above. Received: --image $image"
        return
    fi
    if [[ "$commit" != *-dirty ]] && have_image "$image"; then return; fi
    say "building $image: some minutes for the first one, seconds where only code has changed"
    "${build_command[@]}" >&2 || fail "the image could not be built; what docker says is above"
}

# print_commands: what would be run.
print_commands() {
    local test
    test="$(quoted docker image inspect --format '{{.Id}}' "$image") >/dev/null 2>&1"
    quoted mkdir -p -- "${new_folders[@]}"
    if ((${#pull_command[@]})); then
        echo "$test || $(quoted "${pull_command[@]}")"
    elif [[ "$commit" == *-dirty ]]; then
        quoted "${build_command[@]}"
    else
        echo "$test || $(quoted "${build_command[@]}")"
    fi
    quoted "${run_command[@]}"
}

main() {
    local script variant argument
    declare -A given=()
    if asks_for_help "$@"; then
        usage
        return
    fi
    check_first_argument "$@"
    script="$(find_net_script "$1")"
    shift
    read_options "$@"
    choose_devices "$number"
    if [[ -n "$devices" ]]; then variant=gpu; else variant=cpu; fi

    for argument in "${kept_folders[@]}"; do
        new_folders+=("$repo_root/$argument")
        add_mount "$(realpath --canonicalize-missing -- "$repo_root/$argument")" "$image_root/$argument" rw
    done
    mount_script "$script"
    translate_words ${flags[@]+"${flags[@]}"}
    mount_path_conf "$script"

    pull_command=() build_command=()
    if [[ -n "$image" ]]; then
        pull_command=(docker pull "$image")
    else
        find_commit
        image="trimflow:$variant-$commit"
        build_command=(env DOCKER_BUILDKIT=1 docker build --file "$repo_root/docker/Dockerfile" --target "$variant"
            --build-arg "COMMIT=$commit" --tag "$image" "$repo_root")
    fi
    if [[ -n "$is_dry_run" ]]; then
        make_run_command "$image" "$number" "$script"
        print_commands
        return
    fi
    check_engine
    make_run_command "$image" "$number" "$script"
    mkdir -p -- "${new_folders[@]}" || fail "the folders for the results cannot be made; the reason is above"
    get_image
    # Docker takes the place of this shell: it hands signals to the container, and the exit code is the container's.
    exec "${run_command[@]}"
}

main "$@"
