"""A command line as a configuration: flags -> RunConfig. The only file that reads flags."""

import dataclasses
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from absl import flags as absl_flags

from export.config import ExportConfig
from learners.config import RunConfig, RunOptions, TeacherConfig
from learners.lottery_ticket.config import LotteryTicketConfig
from learners.scheduled.config import DistillationConfig, ScheduleConfig
from learners.weight_sparsification.config import WeightSparseConfig
from nets.config import FUNCTION, DataConfig, NetConfig, NetworkConfig, OwnDataConfig, OwnModelConfig, TrainingConfig
from rl_agents.ddpg.config import DdpgConfig
from utils.caller import find_from_caller
from utils.errors import InputError, RunError
from utils.flags import define_flags, read_flags, result_flags
from utils.path_conf import path_conf_flags, read_path_conf

ROOT = Path(__file__).resolve().parents[1]
COMMAND_FILE = "command.json"  # in a run directory: what it was made by
NOT_REPEATED = ("run_dir", "overwrite", "enbl_multi_gpu", "exec_mode", "dry_run")
FLAG_GROUPS = (
    RunOptions,
    DataConfig,
    NetworkConfig,
    TrainingConfig,
    OwnModelConfig,
    OwnDataConfig,
    TeacherConfig,
    WeightSparseConfig,
    DdpgConfig,
    ScheduleConfig,
    DistillationConfig,
    LotteryTicketConfig,
    ExportConfig,
)


def check_command_line(words: list[str], paths_are_here: bool = True) -> None:
    """Raises InputError for `[net script, flags ...]` that cannot be meant; loads neither TensorFlow nor network.

    Args:
        paths_are_here: whether the run will be on this machine; if not, neither files nor path.conf are looked at.
    """
    read_command_line(words, paths_are_here)


class CommandLine(NamedTuple):
    """The net script, all flags, the names of those that were given, and the configuration they make."""

    script: Path
    flags: absl_flags.FlagValues
    given: set[str]
    config: RunConfig


def read_command_line(words: list[str], paths_are_here: bool = True) -> CommandLine:
    """What `[net script, flags ...]` says; as `check_command_line`."""
    script = _net_script(words[0])
    values = parse_flags(words)
    given = {name for name in values if values[name].present}
    config = _read_config(values)
    if paths_are_here:
        config = _with_found_paths(config, values)
    if paths_are_here and not config.net.own_model.source:
        config = _with_path_conf(config, values, script.stem.removesuffix("_run").rpartition("_at_")[2])
    config.check()
    return CommandLine(script, values, given, config)


def command_record(command: CommandLine) -> dict[str, Any]:
    """What `recorded_command` reads: script and flags as they were given, but for what is a run directory's own."""
    script = command.script.absolute()
    flags = [command.flags[name].serialize() for name in sorted(command.given) if name not in NOT_REPEATED]
    return {
        "script": str(script.relative_to(ROOT) if script.is_relative_to(ROOT) else script),
        "flags": flags,
        "directory": os.getcwd(),
    }


def with_network(command: CommandLine) -> tuple[RunConfig, type]:
    """The configuration with the values that the network suggests, and the network's ModelHelper class."""
    helper_class: Any = getattr(_load(command.script), "ModelHelper", None)
    _check_helper_class(helper_class, command.script)
    helper_class.check_flags(command.config.net, command.given)
    return _with_defaults(command.config, command.flags, helper_class.flag_defaults(command.config.net)), helper_class


def _net_script(word: str) -> Path:
    """The script named on the command line, relative to here or to the project."""
    for path in (Path(word), ROOT / word):
        if os.path.isfile(path) and path.suffix == ".py":
            return path
    known = ", ".join(sorted(f"nets/{path.name}" for path in (ROOT / "nets").glob("*_run.py")))
    raise InputError(f"there is no net script {word}, nor a command of that name. Ours: {known}")


def _load(script: Path) -> ModuleType:
    sys.path.insert(0, str(ROOT))
    directory = script.absolute().parent
    if not directory.is_relative_to(ROOT) and str(directory) not in sys.path:
        sys.path.append(str(directory))  # a user's script imports what lies beside it
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None, script
    assert spec.loader is not None, script
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (InputError, RunError):
        raise
    except Exception as error:  # the user's own code
        raise InputError(f"{script} cannot be loaded: {type(error).__name__}: {error} (--debug shows where)") from error
    return module


def _check_helper_class(helper_class: Any, script: Path) -> None:
    from nets.model_helper import ModelHelper

    if helper_class is None:
        raise InputError(f"{script} must define ModelHelper (see nets/resnet_at_cifar10_run.py)")
    if not (isinstance(helper_class, type) and issubclass(helper_class, ModelHelper)):
        raise InputError(f"ModelHelper of {script} must be a subclass of nets.model_helper.ModelHelper")
    missing = ", ".join(sorted(helper_class.__abstractmethods__))
    if missing:
        raise InputError(f"ModelHelper of {script} must define {missing}")


def parse_flags(words: list[str]) -> absl_flags.FlagValues:
    """The flags of `[net script, flags ...]`; InputError for one that does not exist or cannot be read."""
    values = absl_flags.FlagValues()
    define_flags(FLAG_GROUPS, values)
    try:
        rest = values(words)[1:]
    except absl_flags.Error as error:
        raise InputError(f"{error}. --help lists all flags") from error
    if rest:
        raise InputError(f"flags begin with --. Received: {' '.join(rest)}")
    return values


def _read_config(values: absl_flags.FlagValues) -> RunConfig:
    run = read_flags(RunOptions, values)
    net = NetConfig(
        data=read_flags(DataConfig, values),
        network=read_flags(NetworkConfig, values),
        training=read_flags(TrainingConfig, values),
        own_model=read_flags(OwnModelConfig, values),
        own_data=read_flags(OwnDataConfig, values),
        seed=run.seed,
        quiet=run.quiet,
    )
    groups: Iterator[Any] = (read_flags(group, values) for group in FLAG_GROUPS[6:])
    return RunConfig(run, net, *groups)


def _with_found_paths(config: RunConfig, values: absl_flags.FlagValues) -> RunConfig:
    """Inputs of the user's own as absolute paths, looked up from where the user stands and from the root."""
    words = {
        "own_model": "" if FUNCTION.fullmatch(config.net.own_model.source) else config.net.own_model.source,
        "own_data": config.net.own_data.source,
        "keras_weights": "" if config.net.network.keras_weights == "imagenet" else config.net.network.keras_weights,
    }
    for name, word in words.items():
        if word:
            values[name].value = str(find_from_caller(f"--{name}", word, ROOT))
    return dataclasses.replace(config, net=_read_config(values).net)


def _with_path_conf(config: RunConfig, values: absl_flags.FlagValues, data: str) -> RunConfig:
    """What path.conf says, where the command line does not."""
    return _with_defaults(config, values, path_conf_flags(read_path_conf(ROOT / "path.conf"), data))


def _with_defaults(config: RunConfig, values: absl_flags.FlagValues, defaults: Mapping[str, Any]) -> RunConfig:
    """The values of `defaults` where nothing else was said so far."""
    said = {name: value for name, value in defaults.items() if not values[name].present}
    for name, value in said.items():
        values[name].value = value
        values[name].present = 1  # path.conf goes before what a network suggests
    again = _read_config(values) if said else config
    return dataclasses.replace(config, run=again.run, net=again.net)


def identity_of(config: RunConfig) -> dict[str, Any]:
    """The flags that the result depends on."""
    parts = [config.run, config.net.data, config.net.network, config.net.training, config.teacher]
    if config.net.own_model.source:
        parts += [config.net.own_model, config.net.own_data]
    if config.run.learner == "weight-sparse":
        parts += [config.weight_sparse, config.ddpg]
    if config.run.learner == "scheduled":
        parts += [config.schedule, config.distillation]
    if config.run.learner == "lottery-ticket":
        parts += [config.lottery_ticket]
    return {name: value for part in parts for name, value in result_flags(part).items()}
