"""TrimFlow's program: flags -> RunConfig -> learner. The only file that reads flags.

python main.py nets/resnet_at_cifar10_run.py --learner weight-sparse [flags]
"""

import contextlib
import dataclasses
import gc
import importlib
import importlib.util
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from absl import flags as absl_flags

from learners.config import RunConfig, RunOptions, TeacherConfig
from learners.lottery_ticket.config import LotteryTicketConfig
from learners.scheduled.config import DistillationConfig, ScheduleConfig
from learners.weight_sparsification.config import WeightSparseConfig
from nets.config import FUNCTION, DataConfig, NetConfig, NetworkConfig, OwnDataConfig, OwnModelConfig, TrainingConfig
from rl_agents.ddpg.config import DdpgConfig
from utils.caller import find_from_caller
from utils.errors import InputError, RunError
from utils.flags import define_flags, help_text, read_flags, result_flags
from utils.path_conf import path_conf_flags, read_path_conf

if TYPE_CHECKING:
    from utils.workers import Workers

ROOT = Path(__file__).resolve().parent
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
)
COMMANDS = ("export", "compare", "sweep")  # modules of commands/
USAGE = """usage: python main.py nets/<net>_at_<data>_run.py [--learner ...] [flags]
       python main.py export | compare | sweep ...     (--help after one of these says more)"""


def run(arguments: list[str]) -> NoReturn:
    """The whole program, from a command line `[program or net script, ...]` to an exit code."""
    debug = any(argument in ("--debug", "--debug=true", "-debug") for argument in arguments)
    try:
        sys.exit(_run(arguments))
    except BrokenPipeError:  # `main.py --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt as interrupt:
        if debug:
            raise
        if "HOROVOD_RANK" not in os.environ:  # else the launcher says it once for all workers
            print("interrupted: the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(143 if isinstance(interrupt, _Terminated) else 130)
    except (InputError, RunError) as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)


def _run(arguments: list[str]) -> int:
    words = arguments if arguments[0].endswith("_run.py") else arguments[1:]
    if words and words[0] in COMMANDS:
        return importlib.import_module(f"commands.{words[0]}").run(words[1:])
    if any(word in ("--help", "-help", "-h", "--helpfull") for word in words):
        print(f"{USAGE}\n\n{help_text(FLAG_GROUPS)}")
        return 0
    if not words or words[0].startswith("-"):
        raise InputError(f"the first argument must be a net script. Received: {' '.join(words) or 'nothing'}\n{USAGE}")
    command = read_command_line(words)
    signal.signal(signal.SIGTERM, _stop)
    _share_processor()

    with _quick_imports():
        _import_tensorflow()
        learner_class = _learner_class(command.config.run.learner)
        config, helper_class = with_network(command)
    return _start(config, helper_class, learner_class)


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


def with_network(command: CommandLine) -> tuple[RunConfig, type]:
    """The configuration with the values that the network suggests, and the network's ModelHelper class."""
    helper_class = getattr(_load(command.script), "ModelHelper", None)
    _check_helper_class(helper_class, command.script)
    helper_class.check_flags(command.config.net, command.given)
    return _with_defaults(command.config, command.flags, helper_class.flag_defaults(command.config.net)), helper_class


def _share_processor() -> None:
    """Several workers of one machine share its cores, unless the environment says otherwise."""
    if "HOROVOD_RANK" in os.environ:
        # With one thread a collective operation and the input pipeline wait for each other for ever.
        operations = int(os.environ.get("TF_NUM_INTEROP_THREADS") or 0)
        os.environ["TF_NUM_INTEROP_THREADS"] = str(max(2, operations))
    fellows = int(os.environ.get("HOROVOD_LOCAL_SIZE", "1"))
    if fellows > 1:
        threads = max(1, len(os.sched_getaffinity(0)) // fellows)
        for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ.setdefault(name, str(threads))


def _learner_class(name: str) -> type:
    """The class of `--learner name`; imports only what this one needs."""
    if name == "full-prec":
        from learners.full_precision import FullPrecisionLearner as learner_class
    elif name == "weight-sparse":
        from learners.weight_sparsification.learner import WeightSparseLearner as learner_class
    elif name == "lottery-ticket":
        from learners.lottery_ticket.learner import LotteryTicketLearner as learner_class
    else:
        from learners.scheduled.learner import ScheduledLearner as learner_class
    return learner_class


def _start(config: RunConfig, helper_class: type, learner_class: type) -> int:
    """Everything that needs TensorFlow."""
    import tensorflow as tf

    from utils.workers import make_workers, telling_of_lost_workers

    if tf.config.list_physical_devices("GPU"):  # on a CPU the kernels are deterministic as they are
        tf.config.experimental.enable_op_determinism()
    workers = make_workers(config.run.enbl_multi_gpu, config.run.worker_timeout)
    with telling_of_lost_workers(workers, config.run.worker_timeout):
        return _work(config if workers.is_first else _silent(config), workers, helper_class, learner_class)


def _work(config: RunConfig, workers: "Workers", helper_class: type, learner_class: type) -> int:
    """What is asked for, as one of the workers."""
    helper = helper_class(config.net, workers.rank, workers.size)
    with helper.telling_of_bad_data():
        return _work_with(helper, config, workers, learner_class)


def _work_with(helper: Any, config: RunConfig, workers: "Workers", learner_class: type) -> int:
    from learners.agreement import check_agreement
    from utils.run_dir import RunDir
    from utils.workers import from_all

    name = f"{helper.model_name}_at_{helper.dataset_name}"
    run_dir = RunDir(config.run.run_dir or ROOT / "runs" / name / config.run.learner, workers)
    learner = learner_class(config, helper, run_dir, workers)
    learner.check_flags()
    if config.schedule.dry_run:
        if workers.is_first:
            learner.print_plan(sys.stdout)
        return 0
    if not config.run.quiet:
        print(f"{helper.model_name} on {helper.dataset.title}, learner {config.run.learner}", flush=True)
    if config.run.exec_mode == "eval":
        result = learner.evaluate()
        if workers.is_first:
            measured = {helper.metric_name: result.pop("accuracy"), **result}
            figures = ", ".join(f"{name} {value:.4f}" for name, value in measured.items())
            print(f"test {figures} on {helper.dataset.title}")
        return 0
    from_all(workers, learner.check)
    identity = {"net": name, **_identity(config), **from_all(workers, learner.identity)}
    check_agreement(workers, ROOT, helper, identity)
    run_dir.open(identity, config.run.overwrite)
    try:
        learner.run()
    except InputError:  # such as an address that answers 404
        run_dir.release()
        raise
    return 0


def _silent(config: RunConfig) -> RunConfig:
    """The same, but nothing is said: rank 0 speaks for all workers."""
    run, net = (dataclasses.replace(part, quiet=True) for part in (config.run, config.net))
    return dataclasses.replace(config, run=run, net=net)


def _net_script(word: str) -> Path:
    """The script named on the command line, relative to here or to the project."""
    for path in (Path(word), ROOT / word):
        if path.is_file() and path.suffix == ".py":
            return path
    known = ", ".join(sorted(f"nets/{path.name}" for path in (ROOT / "nets").glob("*_run.py")))
    raise InputError(f"there is no net script {word}. Ours: {known}")


def _load(script: Path) -> ModuleType:
    sys.path.insert(0, str(ROOT))
    directory = script.absolute().parent
    if not directory.is_relative_to(ROOT) and str(directory) not in sys.path:
        sys.path.append(str(directory))  # a user's script imports what lies beside it
    spec = importlib.util.spec_from_file_location(script.stem, script)
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
    groups = (read_flags(group, values) for group in FLAG_GROUPS[6:])
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


def _identity(config: RunConfig) -> dict[str, Any]:
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


class _Terminated(KeyboardInterrupt):
    """SIGTERM, handled like Ctrl-C but for the exit code."""


def _stop(*_) -> NoReturn:
    raise _Terminated


@contextlib.contextmanager
def _quick_imports() -> Iterator[None]:
    """Looks for no garbage meanwhile, a third of the time, nor later in what TensorFlow's first import made."""
    is_first = "tensorflow" not in sys.modules
    gc.disable()
    try:
        yield
    finally:
        if is_first:
            gc.freeze()
        gc.enable()


def _import_tensorflow() -> None:
    """Imports TensorFlow without its lines about processor features, which no setting of its own suppresses.

    Also without two packages that Keras loads for helpers which we do not use: they are a quarter of the time.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    hidden = {name: None for name in ("matplotlib", "sklearn") if name not in sys.modules}
    sys.modules.update(hidden)
    with tempfile.TemporaryFile() as said:
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            import tensorflow as tf

            tf.constant(0.0)
            tf.get_logger().setLevel("ERROR")  # its advice on tracing is not for users; tests count traces
        except BaseException:
            said.seek(0)
            os.write(stderr, said.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            for name in hidden:
                del sys.modules[name]


if __name__ == "__main__":
    run(sys.argv)
