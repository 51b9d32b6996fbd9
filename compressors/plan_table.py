"""The plan as tables of plain ASCII text."""

import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TextIO

from rich.columns import Columns
from rich.console import Console
from rich.table import Table

from compressors.plan import Plan, PlanRow
from utils.tables import plain_text, terminal, titled_table

PLAIN_WIDTH = 100
_NAME_WIDTH = 36
_MAX_RATES = 8  # more changes of the learning rate are told by the first and the last


def print_plan(plan: Plan, stream: TextIO = sys.stdout) -> None:
    """Prints the plan: as wide as a terminal and styled, or plain where there is none (or NO_COLOR is set)."""
    console = terminal(stream)
    if console is not None:
        _print(console, plan)
    else:
        stream.write(format_plan(plan))
        stream.flush()


def format_plan(plan: Plan, width: int = PLAIN_WIDTH) -> str:
    """The plan as plain text of lines at most `width` long."""
    return plain_text(lambda console: _print(console, plan), width)


def epochs_text(epochs: Sequence[int]) -> str:
    """Ascending epochs in short: "0-9, 20" for ten and one more, "0, 2 .. 36" for every second one."""
    said, at = [], 0
    while at < len(epochs):
        end = at + 1
        while end < len(epochs) and epochs[end] - epochs[end - 1] == epochs[at + 1] - epochs[at]:
            end += 1
        if end - at < 3:
            said.append(f"{epochs[at]}")
            end = at + 1
        elif epochs[at + 1] == epochs[at] + 1:
            said.append(f"{epochs[at]}-{epochs[end - 1]}")
        else:
            said.append(f"{epochs[at]}, {epochs[at + 1]} .. {epochs[end - 1]}")
        at = end
    return ", ".join(said)


def _print(console: Console, plan: Plan) -> None:
    console.print(f"Plan of {plan.name} for {plan.num_epochs} epochs")
    for table in (_policy_table(plan.rows), _detail_table(plan.rows)):
        if table.row_count:
            console.print()
            console.print(table)
    console.print()
    if any(row.kind == "pruner" for row in plan.rows):
        at_least = "" if plan.is_exact else "at least "
        asked = f"{at_least}{_percent(plan.sparsity)}" if plan.is_exact or plan.sparsity else "what weights decide"
        console.print(
            f"At the end the pruners ask for {asked} "
            f"of the {plan.num_weights:,} weights of {len(plan.kernels)} prunable kernels."
        )
    if plan.untouched:
        console.print(f"No rule acts on {_names(plan.untouched)}.")
    for warning in plan.warnings:
        console.print(f"Warning: {warning}", style="yellow")


def _policy_table(rows: Sequence[PlanRow]) -> Table:
    table = _table("Policies", ["", "Policy", "Epochs", "Acts on", "Asks for"])
    table.columns[1].no_wrap = True  # else class names are the first to be broken
    for row in rows:
        epochs = epochs_text(row.epochs) or ("after training" if row.kind == "quantizer" else "never")
        names = [name for group in row.groups for name in group.names]
        acts_on = {"lr_scheduler": "the rate", "extension": "the network"}.get(row.kind) or _count(names)
        policy = [*textwrap.wrap(f"{row.kind} {row.instance}", _NAME_WIDTH), row.class_name]
        table.add_row(str(row.number), "\n".join(policy), epochs, acts_on, "\n".join(_asked_in_short(row)))
    return table


def _asked_in_short(row: PlanRow) -> Iterator[str]:
    """What the policy asks for in its first epoch and in its last."""
    if row.rates:
        rates = list(row.rates.values())
        yield from dict.fromkeys((f"rate {_rate(rates[0])}", f"to {_rate(rates[-1])}"))
    elif row.kind == "pruner" and row.epochs:
        first, last = (_range_text(row.sparsity_range(epoch)) for epoch in (row.epochs[0], row.epochs[-1]))
        yield first
        if last != first:
            yield f"to {last}"
    else:
        yield from (group.setting for group in row.groups[:2])
        if len(row.groups) > 2:
            yield f"{len(row.groups) - 2} more, see below"


def _detail_table(rows: Iterable[PlanRow]) -> Table:
    table = _table("By parameter and epoch", ["", "Acts on", "Epoch: what is asked for"])
    for row in rows:
        for group in row.groups:
            asked = group.setting or _course(group.sparsity, _percent_or_weights)
            table.add_row(str(row.number), _names(group.names), asked)
        if row.rates:
            table.add_row(str(row.number), "the learning rate", _course(row.rates, _rate, _MAX_RATES))
    return table


def _course(
    values: Mapping[int, float | None], say: Callable[[float | None], str], limit: int | None = None
) -> Columns:
    """Such as "0: 5.00%   2: 42.06%   4-36: 75.00%"; of more than `limit` steps the first and the last."""
    runs = [(said, [epoch for epoch, _ in run]) for said, run in groupby(values.items(), lambda item: say(item[1]))]
    steps = [f"{epochs_text(epochs)}: {said}" for said, epochs in runs]
    return Columns(steps if limit is None or len(steps) <= limit else [steps[0], "...", steps[-1]], padding=(0, 3))


def _names(names: Sequence[str]) -> str:
    return f"{_count(names)}: {', '.join(name.removesuffix('/kernel') for name in names)}"


def _count(names: Sequence[str]) -> str:
    """How many of what: "20 kernels"; layers have no "/" in their names."""
    is_kernels, is_layers = (all(test(name) for name in names) for test in (_is_kernel, _is_layer))
    thing = "kernel" if is_kernels else "layer" if is_layers else "parameter"
    return f"{len(names)} {thing}{'' if len(names) == 1 else 's'}"


def _is_kernel(name: str) -> bool:
    return name.endswith("/kernel")


def _is_layer(name: str) -> bool:
    return "/" not in name


def _range_text(asked: tuple[float, float] | None) -> str:
    if asked is None or asked[0] == asked[1]:
        return _percent_or_weights(asked and asked[0])
    return f"{_percent(asked[0])} .. {_percent(asked[1])}"


def _percent_or_weights(sparsity: float | None) -> str:
    return "as weights decide" if sparsity is None else _percent(sparsity)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}%"


def _rate(rate: float | None) -> str:
    return "as the training goes" if rate is None else f"{rate:.4g}"


def _table(title: str, columns: Sequence[str]) -> Table:
    table = titled_table(title, column_gap=2)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=not column)
    return table
