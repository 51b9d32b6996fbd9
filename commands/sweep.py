"""`main.py sweep`: one network at several ratios, as a family of runs that share all that they can. No TensorFlow."""

import json
import os
import resource
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from commands import command_line
from commands.sweep_words import USAGE, Plan, read_plan
from export.config import parse_formats
from export.report_schema import whole_report
from learners.weight_sparsification.sweep_children import Ended, Job, State, run_jobs
from learners.weight_sparsification.sweep_family import FamilyDir, is_finished, work_done
from learners.weight_sparsification.sweep_machine import (
    Machine,
    Places,
    bytes_of_a_member,
    environment_of,
    places_for,
    this_machine,
)
from learners.weight_sparsification.sweep_plan import LOGS, Member
from learners.weight_sparsification.sweep_screen import SweepScreen
from utils.errors import InputError, RunError
from utils.json_files import read_json
from utils.progress import format_seconds

_LAST_LINES = 5  # of a failed member's output


class Programs(NamedTuple):
    """The commands of a sweep's processes: of a run, of its check, of the exports. Tests have others.

    run: words behind `main.py` -> command.
    check: the members' words -> command.
    """

    run: Callable[[Sequence[str]], tuple[str, ...]]
    check: Callable[[Sequence[Sequence[str]]], tuple[str, ...]]


def our_programs() -> Programs:
    """main.py, and commands/sweep_check.py beside it."""
    root = command_line.ROOT
    start = f"import sys; sys.path.insert(0, {str(root)!r}); from commands.sweep_check import main; "
    return Programs(
        run=lambda words: (sys.executable, str(root / "main.py"), *words),
        # -P: a main.py in the directory where the user stands is none of ours.
        check=lambda lines: (sys.executable, "-P", "-c", f"{start}sys.exit(main(sys.argv[1:]))", *map(_json, lines)),
    )


def run(words: Sequence[str]) -> int:
    """The command with the words after `sweep`; 1 where a member failed.

    Raises:
        InputError: the command line cannot be meant, or the family's directory is another one's.
        RunError: the dense network could not be trained.
    """
    if any(word in ("--help", "-help", "-h", "--helpfull") for word in words):
        print(USAGE)
        return 0
    return Sweep(read_plan(words), our_programs(), this_machine()).run()


class Sweep:
    """A sweep at work; each part of it is skipped where an earlier start finished it."""

    def __init__(self, plan: Plan, programs: Programs, machine: Machine):
        self.plan, self.programs, self.machine = plan, programs, machine
        self.family = FamilyDir(plan.family.directory)
        self._lock: tuple[int, ...] = ()
        self._failed: dict[str, Ended] = {}

    def run(self) -> int:
        """Does all that is not done yet; the exit code."""
        plan = self.plan
        net = Path(plan.family.script).name
        self.family.check(net, plan.flags, plan.ratios, plan.overwrite)
        facts = self._facts()
        members = [plan.family.member(ratio, not facts["has_trained_weights"]) for ratio in plan.ratios]
        with self.family.hold(self._say) as lock:
            self._lock = (lock,)
            self.family.check(net, plan.flags, plan.ratios, plan.overwrite)  # again: now nobody else writes here
            commands = {member.name: shlex.join(["python", "main.py", *member.words]) for member in members}
            content = {"net": net, "flags": dict(plan.flags), "ratios": list(plan.ratios), "commands": commands}
            self.family.open(content, plan.overwrite)
            self.family.record(**facts)
            self._say_plan(members, facts)
            if not facts["has_trained_weights"]:
                self._dense()
            self._members(members)
            done = [member for member in members if is_finished(member)]
            self._exports(done)
            self._compare(done)
        return self._verdict(members)

    def _facts(self) -> dict[str, Any]:
        """What commands/sweep_check.py finds out of the network; known of an earlier start that had these ratios."""
        known = {} if self.plan.overwrite else self.family.known()
        if known and set(self.plan.ratios) <= set(known["ratios"]) and "title" in known["facts"]:
            return known["facts"]
        lines = [self.plan.family.member(ratio, shares_dense=False).words for ratio in self.plan.ratios]
        self._say("looking at network and data")
        with tempfile.TemporaryDirectory() as directory:
            job = Job("check", self.programs.check(lines), Path(directory) / "check.log")
            ended = run_jobs([job], 1, lambda index, place: dict(os.environ))["check"]
        if ended.code:
            raise (InputError if ended.code == 2 else RunError)(ended.reason)
        from commands.sweep_check import FACTS

        line = next(line for line in ended.said if line.startswith(FACTS))
        return json.loads(line.removeprefix(FACTS))

    def _dense(self) -> None:
        """The dense network that all members begin with."""
        dense = self.plan.family.dense()
        if is_finished(dense):
            return
        ended = self._run([dense], Places(1, ""))[dense.name]
        if ended.code:
            kind = InputError if ended.code == 2 else RunError
            raise kind(f"the sweep has no dense network: {ended.reason}\n(all it said: {self._log(dense.name)})")
        self.family.record(peak_bytes=_peak_of_children())

    def _members(self, members: Sequence[Member]) -> None:
        """All members that are not finished, as many at a time as pays; those with most to do first."""
        waiting = sorted((member for member in members if not is_finished(member)), key=work_done)
        if not waiting:
            return
        facts = self.family.known()["facts"]
        need = bytes_of_a_member(facts.get("peak_bytes", _peak_of_children()), facts["state_bytes"])
        places = places_for(len(waiting), self.machine, need, self.plan.processes)
        if len(waiting) > 1:
            self._say(f"{places.count} at a time ({places.reason})")
        self._run(waiting, places, "members")

    def _exports(self, members: Sequence[Member]) -> None:
        """The exports that are missing, one member after another: other work beside them would spoil the latencies."""
        wanted = parse_formats(self.plan.formats, "--export_formats")
        missing = [member for member in members if wanted - _exported(member)]
        if not missing:
            return
        words = ["export", *(str(member.run_dir) for member in missing), f"--formats={self.plan.formats}"]
        if self.plan.check_images:
            words.append(f"--check_images={self.plan.check_images}")
        run_dir = self.plan.family.directory
        self._run([Member("exports", f"exports of {len(missing)} members", run_dir, tuple(words))], Places(1, ""))

    def _compare(self, members: Sequence[Member]) -> None:
        """The page to choose from; of one run alone there is none."""
        if len(members) < 2:
            return
        from export.comparison import write_comparison  # Matplotlib takes a second

        print()
        page = write_comparison([member.run_dir for member in members], self.plan.family.directory, sys.stdout)
        print(f"\nthe members side by side: {page}")

    def _verdict(self, members: Sequence[Member]) -> int:
        """Says at the very end which members there are not, and why; the exit code."""
        for name, ended in self._failed.items():
            lines = "\n  ".join(ended.said[-_LAST_LINES:])
            print(
                f"error: {name} failed ({ended.reason.splitlines()[0]}); {self._log(name)} ends:\n  {lines}",
                file=sys.stderr,
            )
        if self._failed:
            print("the same command tries again what failed", file=sys.stderr)
        return 1 if self._failed else 0

    def _run(self, members: Sequence[Member], places: Places, part: str = "") -> dict[str, Ended]:
        """Runs them and shows it; those that fail are remembered."""
        jobs = [Job(member.name, self.programs.run(member.words), self._log(member.name)) for member in members]
        titles = {member.name: member.title for member in members}
        told: set[str] = set()
        began = time.monotonic()
        with SweepScreen(titles, quiet=self.plan.quiet) as screen:

            def show(states: Sequence[State]) -> None:
                for state in states:
                    if state.status in ("done", "failed") and state.name not in told:
                        told.add(state.name)
                        if not self.plan.quiet or state.status == "failed":
                            log = f": see {self._log(state.name)}" if state.status == "failed" else ""
                            screen.say(
                                f"{titles[state.name]}: {state.status} after {format_seconds(state.seconds)}{log}"
                            )
                screen.update(states)

            def environment(index: int, place: int) -> dict[str, str]:
                return environment_of(index, place, len(jobs), places.count, self.machine)

            try:
                ended = run_jobs(jobs, places.count, environment, show, keep_open=self._lock)
            finally:
                self.family.add_seconds(part or members[0].name, time.monotonic() - began)
        self._failed |= {name: result for name, result in ended.items() if result.code}
        return ended

    def _log(self, name: str) -> Path:
        return self.plan.family.directory / LOGS / f"{name}.log"

    def _say(self, line: str) -> None:
        if not self.plan.quiet:
            print(line, flush=True)

    def _say_plan(self, members: Sequence[Member], facts: Mapping[str, Any]) -> None:
        family = self.plan.family
        finished = [member.title for member in members if is_finished(member)]
        dense = family.dense()
        if facts["has_trained_weights"]:
            source = "the net script's, which is trained already"
        elif is_finished(dense):
            source = "there already"
        else:
            given = f"taken from {family.value('save_path')} if it is there, else " if family.value("save_path") else ""
            source = f"{given}trained once for all"
        rows = {
            "ratios": ", ".join(member.title for member in members)
            + (f" (finished: {', '.join(finished)})" if finished else ""),
            "dense network": source,
            "members": "after it, side by side, as many at a time as there are cores (or idle GPUs) and memory for",
            "pruning paths": "built by the first member, taken by the others",
            "exports": "none" if self.plan.formats == "none" else "at the end, one member after another",
            "directory": str(family.directory),
        }
        if family.search:
            shorter = " ".join(f"--{name} {value}" for name, value in family.search.items())
            rows["search"] = f"shorter than a single run's: {shorter}"
        self._say(f"Sweep of {len(members)} ratios: {facts['title']}")
        for name, text in rows.items():
            self._say(f"  {name:<14} {text}")


def _json(words: Sequence[str]) -> str:
    return json.dumps(list(words))


def _exported(member: Member) -> set[str]:
    """The formats that the member's report tells of, refused ones too."""
    try:
        report = whole_report(read_json(member.run_dir / "report.json"))
    except ValueError:  # of which the export itself says what it is
        return set()
    return {row["format"] for row in report.get("exports", {}).get("formats", ())}


def _peak_of_children() -> int:
    """Bytes of the largest process that this one waited for."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
