"""path.conf: where this machine keeps its data. `path.conf.template` documents it for users."""

import re
from collections.abc import Mapping
from pathlib import Path

from utils.errors import InputError

MAX_BYTES = 64 * 1024
_KEY = re.compile(r"data_dir_(local|hdfs|seven)_[a-z0-9_]+|data_hdfs_host|model_http_url|image_seven")
_ALLOWED_KEYS = (
    "data_dir_local_<dataset>, data_dir_hdfs_<dataset>, data_hdfs_host, model_http_url, "
    "data_dir_seven_<dataset>, data_dir_seven_runs, image_seven"
)


def read_path_conf(path: str | Path) -> dict[str, str]:
    """The settings of a path.conf file: key -> value, without the unset ones (`None` or nothing).

    A line is `key = value`, empty, or a comment starting with `#`. A missing file means that all is unset. A local
    directory may start with `~`, and a relative one starts at the file's own directory.

    Raises:
        InputError: for a file that cannot be read or is over 64 KiB, and, naming file and line, for anything but the
            allowed keys, each at most once.
    """
    path = Path(path)
    settings: dict[str, str] = {}
    line_of: dict[str, int] = {}
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        place = f"{path}:{number}"
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            raise InputError(f"{place}: a line must be `key = value`. Received: {line!r}")
        if not _KEY.fullmatch(key):
            raise InputError(f"{place}: a key must be one of {_ALLOWED_KEYS}. Received: {key!r}")
        if key in line_of:
            raise InputError(f"{place}: a key must be given once. Received: {key!r}, also in line {line_of[key]}")
        if not value.isprintable() or value[:1] in ("'", '"'):
            raise InputError(f"{place}: a value must be plain text without quotes. Received: {key} = {value!r}")
        line_of[key] = number
        if value not in ("", "None"):
            settings[key] = _local_directory(path, value) if key.startswith("data_dir_local_") else value
    return settings


def path_conf_flags(settings: Mapping[str, str], dataset_name: str) -> dict[str, str]:
    """What `read_path_conf` gave, as flag name -> value for one data set; unset flags are left out.

    The keys of the cluster ("seven") are no flags: scripts/run_seven.sh makes volumes of them.
    """
    key_of = {
        "data_dir_local": f"data_dir_local_{dataset_name}",
        "data_dir_hdfs": f"data_dir_hdfs_{dataset_name}",
        "data_hdfs_host": "data_hdfs_host",
        "model_http_url": "model_http_url",
    }
    return {flag: settings[key] for flag, key in key_of.items() if key in settings}


def _read_text(path: Path) -> str:
    """The file's text, or nothing where there is no file."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise InputError(f"{path} must be a readable file. Received: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{path} must be at most {MAX_BYTES} bytes long. Received: a longer file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} must be UTF-8 text. Received: {error.reason} at byte {error.start}") from error


def _local_directory(path: Path, value: str) -> str:
    """`value` with `~` replaced, relative to the directory of `path`."""
    try:
        return str(path.absolute().parent / Path(value).expanduser())
    except RuntimeError as error:
        raise InputError(f"{path}: no such home directory. Received: {value!r}") from error
