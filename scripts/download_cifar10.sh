#!/usr/bin/env bash
# Fetches CIFAR-10's binary files: see usage below.
set -euo pipefail
unset CDPATH # it would send `cd` elsewhere

readonly URL="${CIFAR10_URL:-https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz}"
readonly SHA256="${CIFAR10_SHA256:-c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd}"
readonly ARCHIVE=cifar-10-binary.tar.gz
readonly UNPACKED=cifar-10-batches-bin
readonly FILES=(data_batch_{1,2,3,4,5}.bin test_batch.bin)
readonly CHECKSUMS=SHA256SUMS
# KiB that a data file may unpack to; CIFAR-10's own have 30,010.
readonly MOST_KIB=102400

usage() {
    cat <<USAGE
usage: scripts/download_cifar10.sh DIR

Downloads $ARCHIVE (170 MB) into DIR, checks its SHA-256 and unpacks it to DIR/$UNPACKED.
Started again, it resumes a download that was cut off, and does nothing where the files are already there.
Then train with --data_dir_local DIR, or write data_dir_local_cifar10 = DIR into path.conf.

environment:
  CIFAR10_URL     where to download from, such as a mirror [$URL]
  CIFAR10_SHA256  the archive's checksum, where a mirror has another archive [$SHA256]
USAGE
}

say() {
    printf 'download_cifar10: %s\n' "$@"
}

fail() {
    say "$@" >&2
    exit 1
}

usage_error() {
    say "$1" >&2
    usage >&2
    exit 2
}

has_checksum() {
    [[ -f "$1" && "$(sha256sum <"$1")" == "${SHA256,,}  -" ]]
}

# download FILE: fetches $URL to FILE, the rest of it where a part is there.
download() {
    if command -v curl >/dev/null; then
        # Wherever the server sends one on to.
        local options=(--proto '=https,http' --fail --location --retry 3 --connect-timeout 30 --speed-limit 1 --speed-time 60)
        options+=(--output "$1" --url "$URL")
        [[ -t 2 ]] || options+=(--silent --show-error)
        local answer status=0
        answer="$(curl "${options[@]}" --continue-at - --write-out '%{http_code}')" || status=$?
        # 416: there is nothing beyond what is here. It may be whole, or another file; the checksum will tell.
        [[ $status -eq 0 || "$answer" == 416 ]] && return
        # 33: the server cannot send a part.
        [[ $status -eq 33 ]] && say "the server cannot resume; starting anew" && curl "${options[@]}"
    elif command -v wget >/dev/null; then
        local options=(--tries=3 --timeout=60 --continue --output-document="$1")
        [[ -t 2 ]] || options+=(--no-verbose)
        wget "${options[@]}" -- "$URL"
    else
        python3 "$(dirname -- "${BASH_SOURCE[0]}")/fetch_file.py" "$URL" "$1"
    fi
}

# fetch_archive: leaves an archive with the right checksum at $archive.
fetch_archive() {
    local part="$archive.part"
    if ! has_checksum "$part"; then
        if [[ -s "$part" ]]; then
            say "resuming $URL at $(stat --format=%s "$part") bytes"
        else
            say "downloading $URL"
        fi
        download "$part" || fail "the download failed; what came of it is kept in $part." \
            "Run the same command again to resume, or delete that file to start anew."
    fi
    if ! has_checksum "$part"; then
        mv -- "$part" "$archive.wrong"
        fail "the SHA-256 of what was downloaded is wrong." \
            "  expected: $SHA256" \
            "  received: $(sha256sum <"$archive.wrong" | cut -d' ' -f1)" \
            "It is kept as $archive.wrong, and nothing else was changed." \
            "Run the same command again for a fresh download. A mirror with another archive needs CIFAR10_SHA256."
    fi
    mv -- "$part" "$archive"
}

# unpack: the archive's data files, and nothing else in it, to $target in one step.
unpack() {
    local name
    work="$(mktemp -d -- "$directory/.unpack.XXXXXX")"
    trap 'rm -rf -- "$work"' EXIT
    # Only members of these names are written, whatever else the archive may hold.
    (
        ulimit -f "$MOST_KIB"
        tar --extract --gzip --file="$archive" --directory="$work" --no-same-owner --no-same-permissions \
            -- "${FILES[@]/#/$UNPACKED/}"
    ) || fail "cannot unpack $archive; it is kept. (A data file may have $MOST_KIB KiB.)"
    for name in "${FILES[@]}"; do
        [[ -f "$work/$UNPACKED/$name" && ! -L "$work/$UNPACKED/$name" ]] || fail "$archive: $UNPACKED/$name is no plain file."
    done
    (cd -- "$work/$UNPACKED" && sha256sum -- "${FILES[@]}" >"$CHECKSUMS")
    mv --no-target-directory -- "$work/$UNPACKED" "$target"
}

case "${1-}" in
    -h | --help) usage && exit 0 ;;
    -*) usage_error "unknown option: $1" ;;
esac
[[ $# -eq 1 && -n "$1" ]] || usage_error "one directory is needed. Received: $# arguments"
[[ "$URL" == https://* || "$URL" == http://* ]] ||
    usage_error "CIFAR10_URL must begin with https:// or http:// (the checksum is looked at in any case). Received: $URL"

mkdir -p -- "$1" || fail "cannot make the directory $1"
directory="$(cd -- "$1" && pwd)"
archive="$directory/$ARCHIVE"
target="$directory/$UNPACKED"

exec {lock}<"$directory"
flock --nonblock "$lock" || fail "another download into $directory is running."

if [[ -e "$target" ]]; then
    [[ -f "$target/$CHECKSUMS" ]] || fail "$target is there already, but this script did not make it; nothing was changed." \
        "Use it with --data_dir_local, or move it away and run the same command again."
    (cd -- "$target" && sha256sum --check --quiet "$CHECKSUMS") ||
        fail "files in $target have changed since they were unpacked; nothing was changed." \
            "Move it away and run the same command again."
    say "$target is complete; nothing to do."
    exit 0
fi

if [[ -e "$archive" ]]; then
    # The user's own copy is used where it is right, and never removed.
    has_checksum "$archive" || fail "$archive is there, but its SHA-256 is wrong; nothing was changed." \
        "  expected: $SHA256" \
        "Move it away and run the same command again."
    unpack
else
    fetch_archive
    unpack
    rm -- "$archive"
fi
say "$target is ready: use --data_dir_local $directory"
