"""TrimFlow's program: a command line -> RunConfig -> learner, or one of the other commands.

python main.py nets/resnet_at_cifar10_run.py --learner weight-sparse [flags]
"""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # what has not begun, or has ended, ends without a traceback

import dataclasses  # noqa: E402
import importlib  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from typing import TYPE_CHECKING, Any, NoReturn  # noqa: E402

from utils import interruption  # noqa: E402
from utils.errors import InputError, RunError  # noqa: E402
from utils.printing import printable  # noqa: E402

# All else is imported within `run`, where an interrupt is heeded.
if TYPE_CHECKING:
    from commands.command_line import CommandLine
    from learners.config import RunConfig
    from utils.workers import Workers

COMMANDS = ("export", "compare", "sweep")  # modules of commands/
USAGE = """usage: python main.py nets/<net>_at_<data>_run.py [--learner ...] [flags]
       python main.py export | compare | sweep ...     (--help after one of these says more)"""


def run(arguments: list[str]) -> NoReturn:
    """The whole program, from a command line `[program or net script, ...]` to an exit code."""
    debug = any(argument in ("--debug", "--debug=true", "-debug") for argument in arguments)
    command = arguments[1] if arguments[1:2] and arguments[1] in COMMANDS else ""
    hint = "begins anew" if command in ("export", "compare") else "goes on from the last checkpoint"
    # Of several workers the launcher says it, once for all.
    line = None if "HOROVOD_RANK" in os.environ else f"interrupted: the same command {hint}"
    # A sweep ends its processes first, each of which may take its time.
    with interruption.heeded(line, None if command == "sweep" else interruption.PATIENCE):
        try:
            sys.exit(_run(arguments))
        except BrokenPipeError:  # `main.py --help | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        except KeyboardInterrupt as interrupt:
            if debug:
                raise
            _end(line, interrupt)
        except (InputError, RunError) as error:
            if debug:
                raise
            print(f"error: {printable(str(error))}", file=sys.stderr)
            sys.exit(2 if isinstance(error, InputError) else 1)
        except Exception:
            if debug or not interruption.is_asked():
                raise
            _end(line, interruption.interrupt())  # what a library made of it


def _end(line: str | None, interrupt: KeyboardInterrupt) -> NoReturn:
    if line is not None:
        print(line, file=sys.stderr)
    sys.exit(interruption.exit_code(interrupt))


def _run(arguments: list[str]) -> int:
    words = arguments if arguments[0].endswith("_run.py") else arguments[1:]
    if words and words[0] in COMMANDS:
        return importlib.import_module(f"commands.{words[0]}").run(words[1:])
    from commands import command_line
    from commands.start import import_tensorflow, learner_class_of, quick_imports, share_processor
    from utils.flags import help_text

    if any(word in ("--help", "-help", "-h", "--helpfull") for word in words):
        print(f"{USAGE}\n\n{help_text(command_line.FLAG_GROUPS)}")
        return 0
    if not words or words[0].startswith("-"):
        raise InputError(f"the first argument must be a net script. Received: {' '.join(words) or 'nothing'}\n{USAGE}")
    command = command_line.read_command_line(words)
    share_processor()

    with quick_imports():
        import_tensorflow()
        learner_class = learner_class_of(command.config.run.learner)
        config, helper_class = command_line.with_network(command)
    return _start(command, config, helper_class, learner_class)


def _start(command: "CommandLine", config: "RunConfig", helper_class: type, learner_class: type) -> int:
    """Everything that needs TensorFlow."""
    import tensorflow as tf

    from utils.workers import make_workers, telling_of_lost_workers

    if tf.config.list_physical_devices("GPU"):  # on a CPU the kernels are deterministic as they are
        tf.config.experimental.enable_op_determinism()
    workers = make_workers(config.run.enbl_multi_gpu, config.run.worker_timeout)
    with telling_of_lost_workers(workers, config.run.worker_timeout):
        config = config if workers.is_first else _silent(config)
        helper = helper_class(config.net, workers.rank, workers.size)
        with helper.telling_of_bad_data():
            return _work(command, helper, config, workers, learner_class)


def _work(command: "CommandLine", helper: Any, config: "RunConfig", workers: "Workers", learner_class: type) -> int:
    """What is asked for, as one of the workers."""
    from commands import command_line
    from learners.agreement import check_agreement
    from utils.files import write_json
    from utils.run_dir import RunDir
    from utils.workers import from_all

    name = f"{helper.model_name}_at_{helper.dataset_name}"
    run_dir = RunDir(config.run.run_dir or command_line.ROOT / "runs" / name / config.run.learner, workers)
    learner = learner_class(config, helper, run_dir, workers)
    learner.check_flags()
    if config.schedule.dry_run:
        if workers.is_first:
            learner.print_plan(sys.stdout)
        return 0
    if not config.run.quiet:
        title = printable(helper.dataset.title)
        print(f"{helper.model_name} on {title}, learner {config.run.learner}", flush=True)
    if config.run.exec_mode == "eval":
        result = learner.evaluate()
        if workers.is_first:
            measured = {helper.metric_name: result.pop("accuracy"), **result}
            figures = ", ".join(f"{name} {value:.4f}" for name, value in measured.items())
            print(f"test {figures} on {printable(helper.dataset.title)}")
        return 0
    from_all(workers, learner.check)
    identity = {"net": name, **command_line.identity_of(config), **from_all(workers, learner.identity)}
    check_agreement(workers, command_line.ROOT, helper, identity)
    run_dir.open(identity, config.run.overwrite)
    try:
        if workers.is_first:
            write_json(run_dir.path / command_line.COMMAND_FILE, command_line.command_record(command))
        learner.run()
    except InputError:  # such as an address that answers 404
        run_dir.release()
        raise
    finally:
        run_dir.close()
    return 0


def _silent(config: "RunConfig") -> "RunConfig":
    """The same, but nothing is said: rank 0 speaks for all workers."""
    run, net = dataclasses.replace(config.run, quiet=True), dataclasses.replace(config.net, quiet=True)
    return dataclasses.replace(config, run=run, net=net)


if __name__ == "__main__":
    run(sys.argv)
