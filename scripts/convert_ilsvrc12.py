"""Makes ImageNet's record files from folders of pictures, for --data_dir_local.

    .venv/bin/python scripts/convert_ilsvrc12.py RAW OUT
    .venv/bin/python scripts/convert_ilsvrc12.py --verify DIRECTORY

RAW holds train/<class>/*.JPEG and val/<class>/*.JPEG. The same command goes on where an earlier one stopped. Another
Python starts itself anew with that of .venv.
"""

from __future__ import annotations  # so that any Python 3 can start this

import argparse
import contextlib
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DESCRIPTION = """\
Makes ImageNet's record files in OUT from the pictures in RAW/train/<class>/*.JPEG and RAW/val/<class>/*.JPEG, in
parallel, and reads them back. The same command goes on where an earlier one stopped. Classes are the folders of train,
sorted; labels count from 1. Left in OUT: train-00000-of-01024 ..., validation-00000-of-00128 ..., labels.txt (line n is
the class of label n), unreadable.txt (pictures left out, if any) and conversion.json (what is done)."""


def main(arguments: list[str] | None = None) -> int:
    """The whole program, from a command line to an exit code: 0, 1 (it failed, or problems were found) or 2 (input)."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.verify is None and options.out is None:
        parser.error("RAW and OUT are needed, or --verify DIRECTORY")
    if options.verify is not None and options.raw is not None:
        parser.error("--verify checks DIRECTORY alone: RAW and OUT have no meaning beside it")
    # A GPU has nothing to do here.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    sys.path.insert(0, str(ROOT))
    from utils.errors import InputError, RunError
    from utils.printing import printable

    try:
        return verify(options) if options.verify is not None else convert(options)
    except BrokenPipeError:  # `convert_ilsvrc12.py --verify DIRECTORY | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as interrupt:
        if options.debug:
            raise
        print("interrupted: the same command goes on where it stopped", file=sys.stderr)
        return 143 if isinstance(interrupt, Terminated) else 130
    except (InputError, RunError, OSError) as error:
        if options.debug:
            raise
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1


def make_parser() -> argparse.ArgumentParser:
    """The flags, their defaults and their help."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("raw", nargs="?", type=Path, metavar="RAW", help="directory with train and val")
    parser.add_argument("out", nargs="?", type=Path, metavar="OUT", help="directory of the records: new or empty")
    parser.add_argument("--train_shards", type=int, default=1024, metavar="N", help="training files [1024]")
    parser.add_argument("--validation_shards", type=int, default=128, metavar="N", help="validation files [128]")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the pictures [0]")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="threads [one for each usable core]")
    parser.add_argument("--verify", type=Path, metavar="DIRECTORY", help="only read back records, whoever made them")
    parser.add_argument("--quiet", action="store_true", help="no progress, only the result")
    parser.add_argument("--debug", action="store_true", help="show where an error came from, and what libraries say")
    return parser


def convert(options: argparse.Namespace) -> int:
    """Makes the records and says what is there; the exit code."""
    from datasets.ilsvrc12.conversion import UNREADABLE_FILE
    from datasets.ilsvrc12.conversion import convert as make_records
    from datasets.ilsvrc12.conversion_state import format_bytes
    from utils.progress import format_seconds

    summary = make_records(
        options.raw,
        options.out,
        train_shards=options.train_shards,
        validation_shards=options.validation_shards,
        seed=options.seed,
        workers=options.workers,
        quiet=options.quiet,
    )
    unreadable = f"{summary.unreadable} unreadable" + (
        f" (left out, see {options.out / UNREADABLE_FILE})" if summary.unreadable else ""
    )
    print(
        f"{summary.records[0]} training and {summary.records[1]} validation images of {summary.classes} classes, "
        f"{unreadable}\n"
        f"{summary.files[0]} and {summary.files[1]} files, {format_bytes(summary.bytes)}, all read back; "
        f"took {format_seconds(summary.seconds)}\n"
        f"use: --data_dir_local {options.out}"
    )
    return 0


def verify(options: argparse.Namespace) -> int:
    """Prints every problem there is; the exit code."""
    from datasets.ilsvrc12.conversion_check import verify_directory
    from utils.printing import printable

    found = verify_directory(options.verify, workers=options.workers, quiet=options.quiet)
    for problem in found.problems:
        print(printable(str(problem)))
    told = f"{found.records[0]} training and {found.records[1]} validation images of {found.classes} classes"
    print(f"{told}: {len(found.problems) or 'no'} problem{'' if len(found.problems) == 1 else 's'}")
    return 1 if found.problems else 0


class Terminated(KeyboardInterrupt):
    """SIGTERM, handled like Ctrl-C but for the exit code."""


def stop(*_: object) -> None:
    """Handles SIGTERM."""
    raise Terminated


def start_with_venv() -> None:
    """Goes on with the Python of .venv where this one has no TensorFlow; without a .venv, says how to make it."""
    if importlib.util.find_spec("tensorflow") is not None:
        return
    python = ROOT / ".venv" / "bin" / "python"
    if python.exists() and Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        os.execv(python, [str(python), *sys.argv])
    sys.exit(
        "error: this Python has no TensorFlow: run ./scripts/setup_venv.sh once, then "
        ".venv/bin/python scripts/convert_ilsvrc12.py RAW OUT"
    )


@contextlib.contextmanager
def silent_libraries() -> Iterator[None]:
    """Hides what TensorFlow and its JPEG decoder write of themselves to the error stream; what we write goes through.

    A picture with a small flaw that decodes nevertheless would tear the progress bar, and no setting keeps it silent.
    """
    real, sys.stderr = sys.stderr, os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(sys.stderr.fileno(), 2)
        sys.stderr.close()
        sys.stderr = real


if __name__ == "__main__":
    if not {"-h", "--help"} & set(sys.argv):
        start_with_venv()
    signal.signal(signal.SIGTERM, stop)
    with silent_libraries() if "--debug" not in sys.argv else contextlib.nullcontext():
        sys.exit(main())
