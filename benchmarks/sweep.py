"""A sweep of four ratios against one of its members alone: wall time, ResNet-20 on digits32.

    .venv/bin/python benchmarks/sweep.py              # measures what is missing, then prints; about 25 minutes
    .venv/bin/python benchmarks/sweep.py --table      # prints what is known

The goal: the sweep takes at most 1.8 times as long as its longest member alone, plus the dense training. Alone is the
run that a user starts for one ratio, given the dense network: all cores, a whole search. Beside it the member's very
own command is measured, with the shorter search that it makes in a sweep. Each is a process of its own, timed from its
start to its end, exports included: those that each makes by default.

Each figure is written to benchmarks/results/sweep.jsonl as it is found, and not measured twice; what was interrupted
begins anew. Needs a quiet machine.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ratios_of_times import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "sweep.jsonl"
RUNS = ROOT / "runs" / "benchmarks" / "sweep"
GOAL = 1.8
SWEEP, ALONE, COMMAND = "sweep", "alone", "own command"
# What a single run is not told.
OF_A_SWEEP = (
    "--ws_nb_rlouts=",
    "--ws_nb_finalists=",
    "--ws_nb_iters_ft=",
    "--ws_paths=",
    "--run_dir=",
    "--export_formats=",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", default="nets/resnet_at_cifar10_run.py")
    parser.add_argument("--ratios", default="0.5,0.75,0.9,0.95")
    parser.add_argument("--flags", default="--data_disk embedded", help="of all runs, in quotes")
    parser.add_argument("--export_formats", default="", help="of all runs; unset: what each makes by default")
    parser.add_argument("--sweep_processes", type=int, default=0, help="0: as the sweep finds best")
    parser.add_argument("--table", action="store_true", help="print what is known")
    options = parser.parse_args()
    what = [options.net, options.ratios, options.flags, options.export_formats, options.sweep_processes]
    if not options.table:
        measure(options, what)
    print_table(what)


def measure(options: argparse.Namespace, what: list[Any]) -> None:
    """Measures what is not known yet."""
    family = RUNS / "family"
    exports = [f"--export_formats={options.export_formats}"] if options.export_formats else []
    flags = [*shlex.split(options.flags), *exports]
    if known(what, SWEEP) is None:
        words = ["sweep", options.net, f"--ws_prune_ratio={options.ratios}", f"--run_dir={family}", *flags]
        words += [f"--sweep_processes={options.sweep_processes}"] if options.sweep_processes else []
        seconds = timed(words, family)
        record = json.loads((family / "sweep.json").read_text())
        members = {name: worked(family / name) for name in record["commands"]}
        longest = max(members, key=members.get)
        keep(what, SWEEP, seconds, parts=record["seconds"], members=members, longest=longest)
    longest = known(what, SWEEP)["longest"]
    if known(what, ALONE) is None or known(what, COMMAND) is None:
        command = shlex.split(json.loads((family / "sweep.json").read_text())["commands"][longest])[2:]
    for part in (ALONE, COMMAND):
        if known(what, part) is None:
            run_dir = RUNS / part.replace(" ", "_")
            dropped = OF_A_SWEEP if part == ALONE else OF_A_SWEEP[3:]
            words = [word for word in command if not word.startswith(dropped)]
            words += [f"--run_dir={run_dir}", *exports]
            seconds = timed(words, run_dir)
            keep(what, part, seconds, stages=stages(run_dir))


def timed(words: Sequence[str], run_dir: Path) -> float:
    """Seconds of `main.py words`, which begins with an empty directory."""
    shutil.rmtree(run_dir, ignore_errors=True)
    print(f"python main.py {shlex.join(words)}", flush=True)
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "main.py", *words], cwd=ROOT)
    if done.returncode:
        sys.exit(f"it ended with code {done.returncode}")
    return time.perf_counter() - started


def stages(run_dir: Path) -> dict[str, float]:
    """Seconds of each stage of a run."""
    return {name: stage["seconds"] for name, stage in json.loads((run_dir / "stages.json").read_text()).items()}


def worked(run_dir: Path) -> float:
    """Seconds of all stages of a run together."""
    return sum(stages(run_dir).values())


def keep(what: list[Any], part: str, seconds: float, **more: Any) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "a") as file:
        file.write(json.dumps({"what": what, "part": part, "seconds": seconds, **more}) + "\n")


def known(what: list[Any], part: str) -> dict[str, Any] | None:
    """The figures of a part, None where it was not measured yet."""
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    return next((row for row in rows if (row["what"], row["part"]) == (what, part)), None)


def print_table(what: list[Any]) -> None:
    sweep = known(what, SWEEP)
    if sweep is None:
        sys.exit("nothing is known yet")
    parts, dense = sweep["parts"], sweep["parts"].get("dense", 0.0)
    print(f"\nsweep of {what[1]}: {sweep['seconds']:.0f} s by the clock")
    for name, seconds in parts.items():
        print(f"  {name:<24} {seconds:7.0f} s")
    print(f"  {'start, check, comparison':<24} {sweep['seconds'] - sum(parts.values()):7.0f} s")
    for name, seconds in sweep["members"].items():
        print(f"  {name + ', its stages':<24} {seconds:7.0f} s")
    for part, title in ((ALONE, "as a single run"), (COMMAND, "by its own command")):
        row = known(what, part)
        if row is None:
            continue
        print(f"{sweep['longest']} alone, {title}: {row['seconds']:.0f} s by the clock")
        print("  " + ", ".join(f"{name} {seconds:.0f}" for name, seconds in row["stages"].items()))
        ratio = (sweep["seconds"] - dense) / row["seconds"]
        goal = f"  goal at most {GOAL}" if part == ALONE else ""
        print(f"  the sweep without its dense training takes {ratio:.2f} times as long{goal}")
        whole = sweep["seconds"] / (row["seconds"] + dense)
        print(f"  the whole sweep takes {whole:.2f} times as long as the dense training and this run")


if __name__ == "__main__":
    main()
