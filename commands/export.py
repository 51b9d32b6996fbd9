"""`main.py export`: the files of finished runs, made (again) in the formats asked for, proved and measured."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from commands import command_line
from commands.start import import_tensorflow, learner_class_of, quick_imports, share_processor
from export.config import DEFAULT_FORMATS, FORMAT_NAMES, parse_formats
from utils.argument_parser import ArgumentParser
from utils.errors import InputError
from utils.json_files import read_json
from utils.version import VERSION

if TYPE_CHECKING:
    from learners.learner import Learner

USAGE = "python main.py export RUN_DIR [RUN_DIR ...] [--formats LIST] [--check_images N] [--quiet]"


class FinishedRun(NamedTuple):
    """A run directory whose run is done, and the command line that it was made by."""

    path: Path
    report: Mapping[str, Any]
    command: command_line.CommandLine
    directory: Path  # where that command line stood


def run(words: Sequence[str]) -> int:
    """Exports the runs named in `words`."""
    options = _read(words)
    parse_formats(options.formats, "--formats")
    if options.check_images < 0:
        raise InputError(f"--check_images must be at least 0. Received: {options.check_images}")
    runs = [finished_run(Path(word)) for word in options.run_dirs]
    if len({run.path for run in runs}) < len(runs):
        raise InputError(f"each run can be named once. Received: {' '.join(options.run_dirs)}")
    share_processor()
    with quick_imports():
        import_tensorflow()
        from export.formats import chosen_formats

        formats = chosen_formats(options.formats, "--formats")
    for finished in runs:
        export_run(finished, formats, options.check_images, options.quiet)
    return 0


def finished_run(path: Path) -> FinishedRun:
    """The run in `path`, looked at without TensorFlow.

    Raises:
        InputError: it is no run's directory, not finished, or made by another version; the message says how to go on.
    """
    path = path.absolute()
    if not (path / "config.json").is_file():
        raise InputError(f"a run directory has a config.json. Received: {path}, which has none")
    recorded = _recorded_command(path)
    report = _report(path, recorded)
    made_by = report.get("versions", {}).get("trimflow")
    if made_by != VERSION:
        raise InputError(
            f"the run must be made by this version of TrimFlow, {VERSION}. Received: {path}, made by {made_by}. "
            "Export it with that version, or start it anew with --overwrite"
        )
    if recorded is None:
        raise InputError(
            f"{path / command_line.COMMAND_FILE} is missing or damaged: network and data are not known. "
            "The run's own command, given again, writes it and repeats nothing else"
        )
    directory = Path(recorded["directory"])  # relative paths among its flags start there
    if not os.path.isdir(directory):  # unlike Path.is_dir it takes any name
        directory = command_line.ROOT
    with contextlib.chdir(directory):
        script = command_line.ROOT / recorded["script"]  # an absolute path stays one
        command = command_line.read_command_line([str(script), *recorded["flags"], f"--run_dir={path}"])
    return FinishedRun(path, report, command, directory)


def export_run(run: FinishedRun, formats: Sequence[Any], check_images: int, quiet: bool) -> None:
    """Makes the exports and writes the report with them."""
    from learners.reporting import Networks, export_networks, write_pages

    with contextlib.chdir(run.directory), _learner(run) as learner, learner.helper.telling_of_bad_data():
        networks = Networks(learner.dense_model(), learner.result())
        exports = export_networks(networks, learner.helper, run.path, formats, check_images, quiet)
        report = {**run.report, "exports": exports}
        write_pages(report, networks, run.path, learner.tensorboard)
    from export.report import print_exports

    print_exports(report, sys.stdout)
    print(f"the files are in {run.path / 'exports'}, the report is {run.path / 'report.html'}")


@contextlib.contextmanager
def _learner(run: FinishedRun) -> "Iterator[Learner]":
    """The learner of the run, whose directory is its own meanwhile.

    Raises:
        InputError: command line, network or data are no longer those of the run, or that is still at work.
    """
    from utils.run_dir import RunDir

    config, helper_class = command_line.with_network(run.command)
    helper = helper_class(config.net, 0, 1)
    run_dir = RunDir(run.path)
    learner = learner_class_of(config.run.learner)(config, helper, run_dir)
    name = f"{helper.model_name}_at_{helper.dataset_name}"
    with helper.telling_of_bad_data():
        run_dir.open({"net": name, **command_line.identity_of(config), **learner.identity()})
    try:
        yield learner
    finally:
        run_dir.close()


def _read(words: Sequence[str]) -> argparse.Namespace:
    parser = ArgumentParser(prog="python main.py export", usage=USAGE, description=__doc__)
    parser.add_argument("run_dirs", nargs="+", metavar="RUN_DIR", help="the directory of a finished run")
    named = f"a comma list of {', '.join(FORMAT_NAMES)}; all: each but {_not_by_default()} [all]"
    parser.add_argument("--formats", default="all", help=named)
    parser.add_argument(
        "--check_images", type=int, default=0, help="test images to prove them by [10,000 at most, 1,000 if large]"
    )
    parser.add_argument("--quiet", action="store_true", help="print only the result")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(words)


def _not_by_default() -> str:
    return ", ".join(name for name in FORMAT_NAMES if name not in DEFAULT_FORMATS)


def _recorded_command(path: Path) -> dict[str, Any] | None:
    try:
        recorded = read_json(path / command_line.COMMAND_FILE)
    except (OSError, ValueError):
        return None
    flags = recorded.get("flags")
    words = [recorded.get("script"), recorded.get("directory"), *(flags if isinstance(flags, list) else [None])]
    return recorded if all(isinstance(word, str) for word in words) else None


def _report(path: Path, recorded: dict[str, Any] | None) -> Mapping[str, Any]:
    """The run's report; InputError says what an unfinished run still lacks and how to go on."""
    from export.report import read_report

    if (path / "report.json").is_file():
        return read_report(path)
    try:
        done = ", ".join(read_json(path / "stages.json")) or "nothing"
    except (OSError, ValueError):
        done = "nothing"
    again = "The same command again goes on"
    if recorded is not None:
        again += f": python main.py {recorded['script']} {' '.join(recorded['flags'])} --run_dir={path}"
    raise InputError(f"the run must be finished. Received: {path}, which has no report.json; done: {done}. {again}")
