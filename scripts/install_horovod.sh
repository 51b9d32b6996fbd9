#!/usr/bin/env bash
# Builds Horovod (requirements/horovod.lock) for the TensorFlow in .venv and installs it there; does nothing where that
# is done. Without an argument it is built for the .venv that is there. The built wheel is kept in a cache directory,
# ${TRIMFLOW_CACHE:-${XDG_CACHE_HOME:-~/.cache}/trimflow}/horovod: another installation takes seconds. An interrupted
# one is made anew by the next call: the stamp that marks Horovod as checked is written last.
#
# Usage: scripts/install_horovod.sh [cpu | gpu]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

readonly log=.venv/horovod-build.log stamp=.venv/trimflow-horovod source_lock=requirements/horovod.lock
# MiB of disk that a build and its wheel take, that the installed package takes, and of memory that one compiler takes.
readonly build_mebibytes=400 installed_mebibytes=60 compiler_mebibytes=1500
# Seconds between two lines of progress; seconds that a check by two processes may take.
readonly progress_seconds=20 check_seconds=180
# Horovod's own requirement.
readonly cmake_major=3 cmake_minor=13

cache=""         # folder of the built wheels
building=""      # folder of the build that is going on
job=""           # process id of the command that is going on, the leader of its own process group
problem=""       # what kept Horovod from being provided: build or check
nccl_library=""  # library, header, version of NCCL and home and version of CUDA, where both are found
nccl_header=""
nccl_version=""
cuda_home=""
cuda_version=""

say() { printf 'horovod: %s\n' "$*" >&2; }

# clean_up: ends what was started and leaves no half-made build behind.
clean_up() {
    local attempt
    if [[ -n "$job" ]]; then
        kill -TERM -- "-$job" 2>/dev/null || true
        for attempt in {1..30}; do
            kill -0 -- "-$job" 2>/dev/null || break
            sleep 0.1
        done
        if ((attempt == 30)); then kill -KILL -- "-$job" 2>/dev/null || true; fi
    fi
    if [[ -n "$building" ]]; then rm -rf -- "$building" || true; fi
}

# logged WHAT COMMAND...: runs it with its output in the log, says every 20 seconds how long WHAT takes; its exit code.
# It gets a session of its own, so that all it starts can be ended together, and none of our locks.
logged() {
    local what="$1" began=$SECONDS next=$progress_seconds percent status=0
    shift
    setsid "$@" >>"$log" 2>&1 </dev/null 8>&- 9>&- &
    job=$!
    while kill -0 "$job" 2>/dev/null; do
        sleep 0.2 8>&- 9>&-
        ((SECONDS - began >= next)) || continue
        next=$((next + progress_seconds))
        percent=""
        [[ "$what" != building ]] || percent="$(grep -oE '^ *\[ *[0-9]+%\]' "$log" | tail -n 1 | tr -d ' []')" || true
        say "$what: $((SECONDS - began)) s${percent:+, $percent}"
    done
    wait "$job" || status=$?
    job=""
    return "$status"
}

# recipe: a hash of all in this repository that makes one built wheel differ from another.
recipe() {
    local sum
    sum="$({ declare -f build change_source && cat -- "$repo_root/$source_lock"; } | sha256sum)"
    echo "${sum:0:12}"
}

# horovod_stamp VARIANT: what a finished Horovod in a finished .venv of that variant says of itself.
horovod_stamp() { printf '%s %s\n' "$(venv_stamp "$1")" "$(recipe)"; }

# is_horovod_ready VARIANT: whether .venv is finished and Horovod was installed there and checked.
is_horovod_ready() {
    [[ -x "$repo_root/.venv/bin/horovodrun" && -f "$repo_root/$stamp" ]] && is_venv_ready "$1" &&
        [[ "$(<"$repo_root/$stamp")" == "$(horovod_stamp "$1")" ]]
}

# free_mebibytes FOLDER: what its disk has free.
free_mebibytes() { df --output=avail --block-size=M -- "$1" | grep -oE '[0-9]+'; }

# check_disk FOLDER MEBIBYTES: fails where the disk of the folder has less free.
check_disk() {
    local free
    free="$(free_mebibytes "$1")"
    ((free >= $2)) || fail "the disk of $1 is too full: Horovod needs $2 MiB there. Received: $free MiB free"
}

# check_tools: fails where a program that the build needs is missing or too old.
check_tools() {
    local tool version
    for tool in cmake make gcc g++; do
        version="$("$tool" --version 2>/dev/null)" ||
            fail "building Horovod needs $tool, which was not found on PATH or does not run." \
                "On Debian 12: sudo apt-get install cmake make g++"
        [[ "$tool" == cmake ]] || continue
        [[ "$version" =~ ([0-9]+)\.([0-9]+)[0-9.]* ]] || fail "cmake does not say its version. Received: $version"
        ((BASH_REMATCH[1] > cmake_major || BASH_REMATCH[1] == cmake_major && BASH_REMATCH[2] >= cmake_minor)) ||
            fail "building Horovod needs cmake $cmake_major.$cmake_minor or newer. Received: ${BASH_REMATCH[0]}"
    done
}

# num_jobs: how many compilers may run at once, by processors and by the memory that is free.
num_jobs() {
    local available limit jobs
    available="$(($(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo) / 1024))"
    # What a container may have.
    limit="$(cat /sys/fs/cgroup/memory.max 2>/dev/null || echo max)"
    if [[ "$limit" != max ]] && ((limit / 1048576 < available)); then available=$((limit / 1048576)); fi
    jobs=$((available / compiler_mebibytes))
    if ((jobs > $(nproc))); then jobs="$(nproc)"; fi
    echo $((jobs > 1 ? jobs : 1))
}

# find_nccl: sets nccl_* and cuda_* where the CUDA compiler and NCCL's header and library are here; else says that not.
find_nccl() {
    local nvcc home library packages
    for nvcc in "${HOROVOD_CUDA_HOME:-/usr/local/cuda}/bin/nvcc" "$(command -v nvcc)" /usr/local/cuda/bin/nvcc; do
        [[ "$("$nvcc" --version 2>/dev/null)" =~ release\ ([0-9.]+) ]] || continue
        cuda_version="${BASH_REMATCH[1]}"
        cuda_home="$(dirname -- "$(dirname -- "$(readlink -f -- "$nvcc")")")"
        # A wrapper script around the compiler is not where CUDA is.
        if [[ -f "$cuda_home/include/cuda_runtime.h" ]]; then break; fi
        cuda_version=""
    done
    packages="$("$venv_python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')"
    for home in ${HOROVOD_NCCL_HOME:+"$HOROVOD_NCCL_HOME"} "$packages/nvidia/nccl" "$cuda_home" /usr/local /usr; do
        [[ -f "$home/include/nccl.h" ]] || continue
        for library in "$home"/lib{,64,/*-linux-gnu}/libnccl.so{,.2}; do
            if [[ -f "$library" ]]; then
                nccl_library="$library"
                nccl_header="$home/include/nccl.h"
                nccl_version="$(sed -nE 's/^#define NCCL_(MAJOR|MINOR|PATCH) +([0-9]+).*/\2/p' "$nccl_header" |
                    paste -sd .)"
                break 2
            fi
        done
    done
    if [[ -z "$cuda_version" || -z "$nccl_library" ]]; then
        nccl_library=""
        say "GPU tensors go through the host with Gloo: the CUDA compiler (nvcc) or NCCL (nccl.h, libnccl.so) is missing"
    fi
}

# cache_key VARIANT: all that a built wheel depends on, as the name of its folder.
cache_key() {
    local tensorflow horovod python glibc operations=gloo
    horovod="$(sed -nE 's/^horovod==([^ ]+).*/\1/p' "$source_lock")"
    tensorflow="$(sed -nE 's/^tensorflow(-cpu)?==([^ ]+).*/\2/p' "requirements/$1.lock")"
    python="$("$venv_python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')"
    glibc="$(getconf GNU_LIBC_VERSION)"
    if [[ -n "$nccl_library" ]]; then operations="nccl$nccl_version-cuda$cuda_version"; fi
    echo "$horovod-tensorflow$tensorflow-$1-$python-$(uname -m)-${glibc// /}-$operations-$(recipe)"
}

# change_source FOLDER: takes the one source that TensorFlow 2.21 has no headers for out of what is compiled. With NCCL
# one of ours takes its place: the function in it is used by Horovod and no longer part of TensorFlow. And a second
# Gloo context takes the network interface of the first: its own is still empty there, with which Gloo listens at the
# address of the machine's name, 127.0.1.1 on many, which other machines do not reach, or crashes where it has none.
# And Gloo's list of ranks gets its length: without one, Horovod never finds that a rank stays away from an operation
# that the others wait in (HOROVOD_STALL_SHUTDOWN_TIME_SECONDS).
change_source() {
    local list="$1/horovod/tensorflow/CMakeLists.txt" line=horovod/tensorflow/xla_mpi_ops.cc count
    local context="$1/horovod/common/gloo/gloo_context.cc" interface="device_attr.iface = global_context.gloo_iface_;"
    local controller="$1/horovod/common/gloo/gloo_controller.cc" reserved="global_ranks_.reserve(size_);"
    sed -i "/::InitializeForProcessSet(/,/^}/ s/device_attr\.iface = gloo_iface_;/$interface/" "$context"
    count="$(grep -cF "$interface" "$context")" || true
    [[ "$count" == 1 ]] || fail "horovod/common/gloo/gloo_context.cc must set device_attr.iface once in" \
        "InitializeForProcessSet. Received: ${count:-0} times"
    count="$(grep -cF "$reserved" "$controller")" || true
    [[ "$count" == 1 ]] || fail "horovod/common/gloo/gloo_controller.cc must have $reserved once." \
        "Received: ${count:-0} times"
    sed -i "s/$reserved/global_ranks_.resize(size_);/" "$controller"
    count="$(grep -cF "$line" "$list")" || true
    [[ "$count" == 1 ]] || fail "horovod/tensorflow/CMakeLists.txt must name $line once. Received: ${count:-0} times"
    if [[ -z "$nccl_library" ]]; then
        sed -i "\#$line#d" "$list"
        return
    fi
    sed -i "s#$line#horovod/tensorflow/gpu_stream.cc#" "$list"
    cat >"$1/horovod/tensorflow/gpu_stream.cc" <<'SOURCE'
#include <cuda_runtime.h>

#include "xla/stream_executor/stream.h"

namespace stream_executor {
namespace gpu {
cudaStream_t AsGpuStreamValue(Stream* stream) {
  return static_cast<cudaStream_t>(stream->platform_specific_handle().stream);
}
}  // namespace gpu
}  // namespace stream_executor
SOURCE
}

# download FOLDER: Horovod's source, of which the hash is checked, unpacked into FOLDER/source.
download() {
    local archive
    logged downloading "$venv_python" -m pip download --no-deps --no-binary :all: --no-build-isolation \
        --require-hashes --no-input --disable-pip-version-check --progress-bar off --dest "$1" \
        --requirement "$source_lock" || {
        fail_where_disk_is_full "$1"
        grep '^ *ERROR' "$log" | tail -n 3 >&2 || true
        if grep -q 'DO NOT MATCH THE HASHES' "$log"; then
            fail "Horovod's source is not the one that $source_lock names: something on the way changed it"
        fi
        if grep -qE 'BackendUnavailable|metadata-generation-failed' "$log"; then
            fail "setuptools in .venv cannot read Horovod's source; all that pip said is in $log"
        fi
        fail "pip could not download Horovod's source: is the network down or the package index out of reach?" \
            "All that pip said is in $log"
    }
    archive="$(find "$1" -maxdepth 1 -name 'horovod-*.tar.gz')"
    mkdir -- "$1/source"
    logged unpacking tar -xzf "$archive" --strip-components 1 -C "$1/source" || {
        fail_where_disk_is_full "$1"
        fail "Horovod's source could not be unpacked; tar's message is in $log"
    }
}

# build FOLDER: a wheel in FOLDER/result with its hash beside it, from FOLDER/source.
build() {
    local name settings=(
        HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1
        HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITHOUT_NVTX=1
        CC=gcc CXX=g++
        "MAKEFLAGS=-j$(num_jobs)" "TMPDIR=$1"
        # Newer g++ no longer includes it by chance, newer cmake refuses what Gloo declares.
        "CXXFLAGS=-include cstdint" CMAKE_POLICY_VERSION_MINIMUM=3.5
    ) removed=(--unset=CFLAGS --unset=CPPFLAGS --unset=LDFLAGS --unset=CMAKE_GENERATOR --unset=CCL_ROOT)
    for name in ${!HOROVOD_@}; do removed+=("--unset=$name"); done
    # What TensorFlow itself demands of the processor, not what this one has: the cache may be shared.
    if [[ "$(uname -m)" == x86_64 ]]; then settings+=("HOROVOD_BUILD_ARCH_FLAGS=-mavx -mf16c"); fi
    if [[ -n "$nccl_library" ]]; then
        # The pip package has no libnccl.so; the library is looked for beside .venv's own packages and where it was.
        mkdir -p -- "$1/nccl/lib"
        ln -s -- "$(dirname -- "$nccl_header")" "$1/nccl/include"
        ln -s -- "$nccl_library" "$1/nccl/lib/libnccl.so"
        settings+=(
            HOROVOD_GPU_OPERATIONS=NCCL HOROVOD_NCCL_LINK=SHARED "HOROVOD_NCCL_HOME=$1/nccl"
            "HOROVOD_CUDA_HOME=$cuda_home"
            "LDFLAGS=-Wl,-rpath,\$ORIGIN/../../nvidia/nccl/lib:$(dirname -- "$nccl_library")"
        )
    fi
    mkdir -- "$1/result"
    logged building env "${removed[@]}" "${settings[@]}" \
        "$venv_python" -m pip wheel --verbose --no-deps --no-build-isolation --use-pep517 --no-cache-dir --no-input \
        --disable-pip-version-check --wheel-dir "$1/result" "$1/source" || {
        problem=build
        return
    }
    (cd -- "$1/result" && sha256sum -- *.whl >SHA256SUMS)
}

# fail_where_disk_is_full FOLDER: fails where the log names a full disk.
fail_where_disk_is_full() {
    if grep -qiE 'No space left on device|Disk quota exceeded' "$log"; then
        fail "the disk of $1 became full: Horovod needs $build_mebibytes MiB there." \
            "Received: $(free_mebibytes "$cache") MiB free"
    fi
}

# fail_to_build: says what the log says of a build that failed.
fail_to_build() {
    fail_where_disk_is_full "$cache"
    if grep -qE 'Killed signal terminated program|virtual memory exhausted|out of memory' "$log"; then
        fail "the compiler ran out of memory: Horovod needs $compiler_mebibytes MiB free. All it said is in $log"
    fi
    grep -E '(^|[^[:alnum:]])(error|Error [0-9]+|CMake Error|undefined reference)([: ]|$)' "$log" |
        grep -vE '^ *(ERROR|g?make(\[[0-9]+\])?:|note:|× )|subprocess-exited' | tail -n 5 >&2 || true
    fail "Horovod could not be compiled; the last errors are above, all that was said in $log"
}

# is_wheel_whole FOLDER: whether the wheel is as it was built.
is_wheel_whole() { (cd -- "$1" && sha256sum --check --status SHA256SUMS) 2>/dev/null; }

# install_and_check FOLDER: installs the folder's wheel in .venv and lets processes of it sum tensors.
install_and_check() {
    local gpus
    rm -f -- "$stamp"
    logged installing "$venv_python" -m pip install --no-user --no-deps --no-index --force-reinstall --no-input \
        --disable-pip-version-check "$1"/*.whl || {
        fail_where_disk_is_full "$repo_root"
        grep '^ERROR' "$log" | tail -n 3 >&2 || true
        fail "pip could not install the wheel in $1; all it said is in $log"
    }
    check_operations gloo 2
    gpus="$(list_gpus | wc -l)"
    if [[ -z "$problem" && -n "$nccl_library" ]] && ((gpus > 0)); then
        check_operations nccl "$((gpus < 2 ? gpus : 2))"
    fi
}

# check_operations (gloo | nccl) NUM_PROCESSES: that many processes must sum tensors in time.
check_operations() {
    local name removed=()
    for name in ${!HOROVOD_@}; do removed+=("--unset=$name"); done
    logged "checking by $2 process(es) with $1" env "${removed[@]}" TF_CPP_MIN_LOG_LEVEL=2 \
        timeout --kill-after=10 "$((check_seconds + 10))" .venv/bin/horovodrun -np "$2" --gloo \
        "$venv_python" scripts/check_horovod.py "$1" "$2" "$check_seconds" || problem=check
}

# make_wheel FOLDER: downloads, changes and builds beside FOLDER and then moves the result there, whole.
make_wheel() {
    check_tools
    check_disk "$cache" "$build_mebibytes"
    # What killed builds left; ours is the only one, by the lock.
    rm -rf -- "$1".building.* || true
    building="$(mktemp -d -- "$1.building.XXXXXX")"
    download "$building"
    change_source "$building/source"
    build "$building"
    if [[ -z "$problem" ]]; then
        rm -rf -- "$1"
        mv -T -- "$building/result" "$1"
    fi
    rm -rf -- "$building"
    building=""
}

# provide VARIANT: Horovod in .venv, from the cache or, where that has none that works, built.
provide() {
    local folder minutes=2
    if [[ -n "$nccl_library" ]]; then minutes=4; fi
    folder="$cache/$(cache_key "$1")"
    exec 8>>"$folder.lock"
    if ! flock --nonblock 8; then
        say "waiting for another start that is building the same"
        flock 8
    fi
    if is_wheel_whole "$folder"; then
        say "installing from $folder"
        install_and_check "$folder"
        if [[ -z "$problem" ]]; then return; fi
        say "the wheel from the cache does not work here: building it anew"
        problem=""
    elif [[ -e "$folder" ]]; then
        say "the wheel in $folder is damaged: building it anew"
    fi
    say "building Horovod: about $minutes minutes and $build_mebibytes MiB, only once"
    make_wheel "$folder"
    if [[ -z "$problem" ]]; then install_and_check "$folder"; fi
}

# make_cache: sets the cache directory and makes it.
make_cache() {
    local folder="${TRIMFLOW_CACHE:-}"
    if [[ -z "$folder" ]]; then
        [[ -n "${XDG_CACHE_HOME:-${HOME:-}}" ]] || fail "set TRIMFLOW_CACHE to a folder for the built wheel: HOME is not set"
        folder="${XDG_CACHE_HOME:-$HOME/.cache}/trimflow"
    fi
    if ! mkdir -p -- "$folder/horovod" || [[ ! -w "$folder/horovod" ]]; then
        fail "$folder cannot be written: set TRIMFLOW_CACHE to a folder for the built wheel"
    fi
    cache="$(cd -P -- "$folder/horovod" && pwd)"
}

main() {
    local variant="${1:-}" began=$SECONDS
    (($# <= 1)) || fail "at most one argument, cpu or gpu. Received: $*"
    if (($# == 0)); then
        if [[ -f "$repo_root/.venv/trimflow-variant" ]]; then
            variant="$(<"$repo_root/.venv/trimflow-variant")"
        else
            variant="$(venv_variant "$(list_gpus)")"
        fi
    fi
    [[ "$variant" == cpu || "$variant" == gpu ]] || fail "the argument must be cpu or gpu. Received: $variant"
    if is_horovod_ready "$variant"; then return; fi

    make_cache
    cd -- "$repo_root"
    is_venv_ready "$variant" || scripts/setup_venv.sh "$variant"
    # One at a time, and never while .venv is made: the others wait here and then find it done.
    exec 9>>.venv.lock
    if ! flock --nonblock 9; then
        say "waiting for another start that is installing into .venv"
        flock 9
    fi
    if is_horovod_ready "$variant"; then return; fi

    trap clean_up EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # Where cmake was installed by pip it is here.
    export PATH="$repo_root/.venv/bin:$PATH"
    # A new file: what a killed start left running may still write to the old one.
    rm -f -- "$log"
    : >"$log"
    check_disk .venv "$installed_mebibytes"
    if [[ "$variant" == gpu ]]; then find_nccl; fi
    provide "$variant"
    if [[ -n "$problem" && -n "$nccl_library" ]]; then
        cp -- "$log" "${log%.log}-nccl.log"
        say "with NCCL its $problem failed (${log%.log}-nccl.log): GPU tensors go through the host with Gloo"
        : >"$log"
        nccl_library="" problem=""
        provide "$variant"
    fi
    case "$problem" in
        build) fail_to_build ;;
        check)
            grep -vE '^(\[[0-9]\]<stderr>:)?(I0000|WARNING|To enable the following)|^ *$' "$log" | tail -n 5 >&2 || true
            fail "Horovod was installed, but processes of it could not sum tensors: what they said is above and in $log"
            ;;
    esac
    horovod_stamp "$variant" >"$stamp.new"
    mv -f -- "$stamp.new" "$stamp"
    say "done in $((SECONDS - began)) s"
}

main "$@"
