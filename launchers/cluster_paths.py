"""What main.py is told in a pod, where the files of the submitting machine are not."""

import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from commands import command_line
from launchers.mpijob import DATA, KEPT_FOLDERS
from launchers.mpijob import ROOT as POD_ROOT
from utils.errors import InputError
from utils.path_conf import path_conf_flags

ROOT = Path(__file__).resolve().parents[1]
OWN = "own_model"  # in place of a data set's name where the data is the user's own

READ_PATHS = (
    *("own_data", "own_model", "keras_weights", "compress", "kd_resume", "data_dir_local"),
    *("save_path_eval", "save_path_dst"),
)
WRITTEN_PATHS = ("run_dir", "save_path", "ws_save_path", "ws_paths", "log_dir")
_IN_THE_IMAGE = ("nets/", "recipes/")  # folders of the repository whose files flags may name
_DISKS = {"local": (), "embedded": (), "hdfs": ("data_dir_hdfs", "data_hdfs_host")}  # -> settings that pods need


class Command(NamedTuple):
    """A command line of main.py for pods."""

    words: tuple[str, ...]  # net script, flags
    dataset: str
    learner: str
    reads_data: bool  # whether something below /data


def make_command(script: str, flags: Sequence[str], settings: Mapping[str, str]) -> Command:
    """The command line that does in a pod, where there is no path.conf, what these flags and settings ask for.

    Raises:
        InputError: a flag is wrong, or names a file that pods do not have.
    """
    net_script = _in_the_image(script)
    dataset = Path(net_script).stem.removesuffix("_run").rpartition("_at_")[2]
    for word in flags:
        if word.startswith(("-flagfile", "--flagfile")):
            raise InputError(f"the flags themselves must be given, pods do not have that file. Received: {word}")
    command_line.check_command_line([net_script, *flags], paths_are_here=False)
    values = command_line.parse_flags([net_script, *flags])
    given = {name: str(values[name].value) for name in (*READ_PATHS, *WRITTEN_PATHS) if values[name].value}
    for name, path in given.items():
        is_no_path = (name == "own_model" and ":" in path) or (name == "keras_weights" and path == "imagenet")
        if not is_no_path:  # module:function, or what keras.applications fetches
            _check_path(name, path)
    more = {} if dataset == OWN else _settings_of_pods(values, dataset, settings)
    added = {name: value for name, value in more.items() if not values[name].present}
    return Command(
        # Those of path.conf first: of a flag given twice the last one counts.
        (net_script, *(f"--{name}={value}" for name, value in added.items()), *flags),
        dataset,
        str(values["learner"].value),
        any(_is_below(_in_pod(path), DATA) for path in (given | added).values()),
    )


def _in_the_image(script: str) -> str:
    """The net script's path below the repository's root."""
    path = (ROOT / script).resolve()
    if not path.is_file() or not path.is_relative_to(ROOT / "nets"):
        raise InputError(f"a net script must be a file below {ROOT / 'nets'}: pods have no other. Received: {script!r}")
    return path.relative_to(ROOT).as_posix()


def _settings_of_pods(values: Any, dataset: str, settings: Mapping[str, str]) -> dict[str, str]:
    """Flags that say where pods find data and models, as far as path.conf knows."""
    known = path_conf_flags(settings, dataset)
    disk = values["data_disk"].value
    if not disk:
        has_local = values["data_dir_local"].value or f"data_dir_seven_{dataset}" in settings
        disk = "hdfs" if not has_local and (values["data_dir_hdfs"].value or "data_dir_hdfs" in known) else "local"
    if disk not in _DISKS:
        raise InputError(f"--data_disk must be one of {', '.join(_DISKS)}. Received: {disk!r}")
    more = {name: known[name] for name in (*_DISKS[disk], "model_http_url") if name in known}
    return more | ({"data_dir_local": DATA} if disk == "local" else {})


def _check_path(name: str, path: str) -> None:
    """Raises InputError for a path that pods do not have, or must not write."""
    inside, may_be_read = _in_pod(path), name in READ_PATHS
    places = [f"{POD_ROOT}/{folder}" for folder in KEPT_FOLDERS] + ([DATA] if may_be_read else [])
    if any(_is_below(inside, place) for place in places):
        return
    in_repository = posixpath.relpath(inside, POD_ROOT)
    if may_be_read and in_repository.startswith(_IN_THE_IMAGE) and (ROOT / in_repository).is_file():
        return
    read_only = f", or below {DATA} (path.conf's data_dir_seven_<dataset>)" if may_be_read else ""
    raise InputError(
        f"--{name} must be a path that pods have: below runs, models or logs (path.conf's data_dir_seven_runs)"
        f"{read_only}; copy what lies on this machine to there. Received: {path!r}"
    )


def _in_pod(path: str) -> str:
    """`path`, as main.py in a pod takes it, absolute."""
    return posixpath.normpath(posixpath.join(POD_ROOT, path))


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
