"""The words after `main.py sweep` as a plan; every member's command line is checked. No TensorFlow."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from commands import command_line
from learners.weight_sparsification.sweep_plan import (
    FINALISTS,
    FINE_TUNING,
    PROCESSES,
    RATIOS,
    ROLLOUTS,
    Family,
    check_given,
    check_senseless,
    read_processes,
    read_ratios,
    search_of_a_member,
    take_option,
)
from utils.errors import InputError

# What the comparison of a family goes by; main.py export makes the others of the member that is picked.
FORMATS = "litert,litert-int8,trim-256"
USAGE = f"""usage: python main.py sweep NET_SCRIPT --ws_prune_ratio R1,R2,... [flags]

One network pruned to several ratios, and a page to choose from. The runs share the dense network and the pruning paths
and go side by side; the same command again goes on where they were.

  NET_SCRIPT              what to compress, such as nets/resnet_at_cifar10_run.py
  --ws_prune_ratio LIST   at least two ratios: 0.5,0.75,0.9,0.95
  --sweep_processes N     members at a time [as many as there are cores (or idle GPUs) and memory for]
  --run_dir DIR           directory of the family [runs/<net script>/sweep]
  --save_path FILE        the dense network: taken from there if it exists, else trained and kept there
  --ws_nb_rlouts N        roll-outs of each member's search [{ROLLOUTS}; of a single run 200]
  --ws_nb_finalists N     its finalists [{FINALISTS}; of a single run 3]
  --ws_nb_iters_ft N      fine-tuning steps that they share [{FINE_TUNING}; of a single run 400]
  --export_formats LIST   exports of each member, made at the end [{FORMATS}]
  --overwrite             delete the family first
  --quiet                 print only the result
  FLAGS                   of the weight-sparse learner, the network and the data: python main.py --help lists them"""


class Plan(NamedTuple):
    """A sweep as its command line says it.

    flags: flag -> value of all that the results depend on, but the ratios.
    processes: members at a time; 0: as pays.
    formats: of the exports; "none" for none.
    """

    family: Family
    ratios: tuple[float, ...]
    flags: Mapping[str, Any]
    processes: int
    formats: str
    check_images: str
    overwrite: bool
    quiet: bool


def read_plan(words: Sequence[str]) -> Plan:
    """What the words after `sweep` ask for; every member's command line is checked.

    Raises:
        InputError: a word that cannot be meant.
    """
    text, rest = take_option(words, RATIOS)
    asked, rest = take_option(rest, PROCESSES)
    if not rest or rest[0].startswith("-"):
        received = " ".join(words) or "nothing"
        raise InputError(
            f"the first word after sweep must be a net script. Received: {received}\n{USAGE.splitlines()[0]}"
        )
    check_senseless(rest[1:])
    ratios, processes = read_ratios(text), read_processes(asked)
    values = command_line.parse_flags(rest)
    given = {name: values[name].serialize() for name in values if values[name].present}
    check_given(given, str(values["learner"].value))
    # `--learner` is not given by most, and without it the other flags would be those of another learner.
    first = command_line.read_command_line([*rest, "--learner=weight-sparse", f"--{RATIOS}={ratios[0]}"])
    stem = first.script.stem.removesuffix("_run")
    directory = Path(values["run_dir"].value or command_line.ROOT / "runs" / stem / "sweep").absolute()
    search = search_of_a_member(given, first.config.weight_sparse)
    family = Family(rest[0], directory, given, search)
    for line in (family.dense(), *map(family.member, ratios)):
        command_line.check_command_line(list(line.words))
    identity = command_line.identity_of(first.config)
    flags = {name: value for name, value in identity.items() if name != RATIOS}
    return Plan(
        family,
        ratios,
        flags | search,
        processes,
        str(values["export_formats"].value) if "export_formats" in given else FORMATS,
        family.value("export_check_images"),
        bool(values["overwrite"].value),
        bool(values["quiet"].value),
    )
