"""What a sweep will do, from its command line: the members of the family, their command lines, what they share."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from learners.config import TeacherConfig
from learners.weight_sparsification.config import WeightSparseConfig
from rl_agents.ddpg.config import DdpgConfig
from utils.errors import InputError
from utils.flags import flag_fields

RATIOS, PROCESSES = "ws_prune_ratio", "sweep_processes"  # the two options that a sweep reads by itself
DENSE, LOGS, PATHS = "dense", "logs", "paths.npz"  # in the family's directory
# A member's search, of which a single run makes 200, 3 and 400: what fits into the time that a family may take.
ROLLOUTS, FINALISTS, FINE_TUNING = 20, 2, 130
# Latency that is measured beside other work is worth nothing: exports are made at the end, one by one.
NO_EXPORTS = ("--export_formats=none",)
_OF_PROCESSES = re.compile(r"--?(n|nb_gpus|H|hostfile)(=.*)?")  # options of scripts/run_local.sh
# What a single run may be told but its family not, and why.
_SENSELESS = {
    "exec_mode": "a sweep trains; a member is evaluated by its own command",
    "enbl_multi_gpu": f"a member is one process; --{PROCESSES} says how many members run at a time",
    "ws_save_path": "all members would write to the same file; each keeps its model in its run directory",
    "save_path_eval": "a sweep evaluates no other model",
}
# What the whole family is told once, and its members get in another form or not at all.
_OF_THE_FAMILY = (
    "learner", "run_dir", "overwrite", "quiet", "save_path", "log_dir", "ws_paths", "export_formats",
    "export_check_images",
)  # fmt: skip
_OF_COMPRESSION = {name for group in (TeacherConfig, WeightSparseConfig, DdpgConfig) for name in flag_fields(group)}


class Member(NamedTuple):
    """A run of the family, or its dense network.

    name: "ratio_0.9", its directory's and its log's; "dense".
    title: what the screen calls it: "0.9", "dense network".
    words: its command line behind `main.py`.
    """

    name: str
    title: str
    run_dir: Path
    words: tuple[str, ...]

    @property
    def flags(self) -> dict[str, str]:
        """Flag -> value as written, of those with a value on the command line."""
        pairs = (word.removeprefix("--").partition("=") for word in self.words[1:])
        return {name: value for name, equals, value in pairs if equals}


class Family(NamedTuple):
    """What the members have in common.

    script: the net script as it was given.
    directory: absolute.
    given: flag -> as it is to be written again ("--seed=3"), of all flags on the command line.
    search: flag -> value of how long each member searches, where that is shorter than a single run does.
    """

    script: str
    directory: Path
    given: Mapping[str, str]
    search: Mapping[str, int]

    def dense(self) -> Member:
        """The run that trains or takes the dense network."""
        dropped = {*_OF_THE_FAMILY, *_OF_COMPRESSION} - {"save_path"}
        words = [word for name, word in self.given.items() if name not in dropped]
        run_dir = self.directory / DENSE
        own = ["--learner=full-prec", f"--run_dir={run_dir}", *self._log_dir(DENSE), *NO_EXPORTS]
        return Member(DENSE, "dense network", run_dir, (self.script, *words, *own))

    def member(self, ratio: float, shares_dense: bool = True) -> Member:
        """The run at one ratio.

        Args:
            shares_dense: whether it takes the family's dense network; not where the net script brings a trained one.
        """
        written = repr(ratio).removesuffix(".0")
        name = f"ratio_{written}"
        run_dir, paths = self.directory / name, self.value("ws_paths") or str(self.directory / PATHS)
        own = ["--learner=weight-sparse", f"--{RATIOS}={written}", f"--run_dir={run_dir}", f"--ws_paths={paths}"]
        if shares_dense:
            own.append(f"--save_path={self.directory / DENSE / 'model.keras'}")
        own += [f"--{name}={value}" for name, value in self.search.items()]
        words = [word for name, word in self.given.items() if name not in _OF_THE_FAMILY]
        own += [*self._log_dir(name), *NO_EXPORTS]
        return Member(name, written, run_dir, (self.script, *words, *own))

    def value(self, name: str) -> str:
        """Of a flag with a value on the command line; "" where it was not given."""
        return self.given.get(name, "").partition("=")[2]

    def _log_dir(self, name: str) -> list[str]:
        return [f"--log_dir={Path(self.value('log_dir')) / name}"] if self.value("log_dir") else []


def take_option(words: Sequence[str], name: str) -> tuple[str | None, list[str]]:
    """The value of `--name VALUE` or `--name=VALUE` among the words, None where it is not there; the other words.

    Raises:
        InputError: it is given twice, or without a value.
    """
    found, rest, words = None, [], list(words)
    while words:
        word = words.pop(0)
        option, equals, value = word.lstrip("-").partition("=")
        if option != name or not word.startswith("-"):
            rest.append(word)
            continue
        if found is not None:
            raise InputError(f"--{name} can be given once. Received: {found!r} and another one")
        if not equals and not words:
            raise InputError(f"--{name} must have a value. Received: nothing")
        found = value if equals else words.pop(0)
    return found, rest


def read_ratios(text: str | None) -> tuple[float, ...]:
    """The ratios of "0.5,0.75,0.9", in the order given. Their range is checked with each member's command line.

    Raises:
        InputError: one is no number or there twice, or they are fewer than two.
    """
    if text is None:
        raise InputError(
            f"--{RATIOS} must be given to a sweep, such as --{RATIOS} 0.5,0.75,0.9,0.95. Received: nothing"
        )
    ratios: list[float] = []
    for part in text.split(","):
        try:
            ratio = float(part)
        except ValueError:
            raise InputError(f"--{RATIOS} must be numbers with commas between them. Received: {text!r}") from None
        if not math.isfinite(ratio):
            raise InputError(f"--{RATIOS} must be finite numbers. Received: {text!r}")
        if ratio in ratios:
            raise InputError(f"--{RATIOS} must have each ratio once. Received: {part.strip()} twice")
        ratios.append(ratio + 0.0)  # -0.0 is 0.0
    if len(ratios) < 2:
        raise InputError(f"--{RATIOS} must have at least two ratios in a sweep. Received: {text!r}")
    return tuple(ratios)


def read_processes(text: str | None) -> int:
    """The value of --sweep_processes, 0 where it is not given."""
    if text is None:
        return 0
    if not re.fullmatch(r"[1-9]\d{0,3}", text):
        raise InputError(f"--{PROCESSES} must be a number of members at a time, at least 1. Received: {text!r}")
    return int(text)


def check_senseless(words: Sequence[str]) -> None:
    """Raises InputError for an option of `run_local.sh` that starts one run in many processes."""
    for word in words:
        if _OF_PROCESSES.fullmatch(word):
            raise InputError(
                f"{word.partition('=')[0]} makes no sense in a sweep, whose members are one process each: "
                f"--{PROCESSES} says how many of them run at a time. Received: {word}"
            )


def check_given(given: Mapping[str, str], learner: str) -> None:
    """Raises InputError for a flag that makes no sense in a sweep."""
    if learner != "weight-sparse" and "learner" in given:
        raise InputError(f"--learner must be weight-sparse in a sweep, or left out. Received: {learner}")
    for name, why in _SENSELESS.items():
        if name in given and given[name] not in ("--exec_mode=train", "--noenbl_multi_gpu"):
            raise InputError(f"--{name} makes no sense in a sweep: {why}. Received: {given[name]}")


def search_of_a_member(given: Mapping[str, str], options: WeightSparseConfig) -> dict[str, int]:
    """Flag -> value of a shorter search than a single run's, as far as the command line does not say it.

    The given allocations, which mostly win, are always among the roll-outs. Nothing where there is no search, or where
    so few roll-outs would not fill the replay buffer that the command line asks for.
    """
    if options.prune_ratio_protocol != "optimal":
        return {}
    short = {"ws_nb_rlouts": ROLLOUTS, "ws_nb_finalists": FINALISTS, "ws_nb_iters_ft": FINE_TUNING}
    if options.min_rollouts > ROLLOUTS:
        del short["ws_nb_rlouts"]
    return {name: value for name, value in short.items() if name not in given}
