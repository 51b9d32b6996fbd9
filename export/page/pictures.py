"""All pictures of a run, each with what it says in words; files of them, and bytes for TensorBoard."""

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from export.figures import figure_png, layer_name
from export.page.blocks import Picture
from export.page.verdicts import smallest_sound
from export.page.wording import Quality, capitalised, counted, kilobytes, milliseconds, percent
from export.plots import AGENT, draw_ratios, draw_search, draw_training
from export.plots_files import draw_latency, draw_sizes, sized_rows, timed_rows
from export.plots_layers import draw_layers
from export.plots_lottery import draw_rounds
from export.plots_rollouts import chosen_index, draw_accuracy, is_narrow, rollout_accuracy
from export.plots_weights import draw_masks, draw_weights, shown_masks
from export.run_record import RunRecord
from utils.files import write_atomically

TRAININGS = {"dense": "of the dense network", "training": "of the compressed network"}


def pictures(record: RunRecord) -> dict[str, Picture]:
    """Name -> picture, of what the run has; nothing is drawn yet."""
    found = [
        *_file_pictures(record),
        *_search_pictures(record),
        *_training_pictures(record),
        *_round_pictures(record),
        *_layer_pictures(record),
        *_kernel_pictures(record),
    ]
    return {picture.name: picture for picture in found}


def picture_files(record: RunRecord, directory: str | Path) -> dict[str, bytes]:
    """Writes each picture of the run to `directory` (its `plots`) as `<name>.png`; returns name -> the PNG's bytes.

    Raises:
        RunError: the disk is full; a file that was there stays.
    """
    contents = {name: figure_png(picture.draw()) for name, picture in pictures(record).items()}
    for name, content in contents.items():
        write_atomically(Path(directory) / f"{name}.png", functools.partial(_write, content))
    return contents


def _mean_size(weights: np.ndarray) -> float:
    return float(np.abs(weights).mean()) if weights.size else 0.0


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _file_pictures(record: RunRecord) -> Iterator[Picture]:
    report, exports = record.report, record.report.get("exports")
    if not exports:
        return
    sized, timed = sized_rows(exports), timed_rows(exports)
    if sized:
        by_size = sorted(sized, key=lambda row: row["bytes"])
        alt = "; ".join(f"{row['title']}: {kilobytes(row['bytes'])}" for row in by_size)
        smallest = smallest_sound(report)
        best = f" The smallest that is within one point of the network: {smallest['title']}." if smallest else ""
        yield Picture(
            "sizes",
            "Size of each file",
            f"Bars of {counted(len(sized), 'file')}. {alt}.{best}",
            "The thin bar is the least that the weights themselves could take, stored with values of that kind.",
            functools.partial(draw_sizes, exports, report["data_title"]),
        )
    if timed:
        texts = []
        for row in timed:
            time = row.get("one_thread") or row["all_threads"]
            threads = "one thread" if row.get("one_thread") else "all threads"
            low, median, high = (milliseconds(time[part]) for part in ("low", "median", "high"))
            texts.append(f"{row['title']}: {median} ms on {threads}, {low} to {high}")
        yield Picture(
            "latency",
            "Latency of one example in each format",
            f"{'; '.join(texts)}.",
            "Points are medians, lines go from the fastest to the slowest round.",
            functools.partial(draw_latency, exports, report["data_title"]),
        )


def _search_pictures(record: RunRecord) -> Iterator[Picture]:
    report, rollouts = record.report, record.rollouts
    if not rollouts:
        return
    metric = Quality.of(report).name
    chosen = chosen_index(rollouts, record.finalists)
    facts = _search_facts(record, chosen, metric)
    sizes = {layer["path"]: layer["parameters"] for layer in report["layers"]}
    if all(path in sizes for rollout in rollouts for path in rollout["ratios"]):
        yield Picture(
            "accuracy_vs_sparsity",
            f"{capitalised(metric)} of all roll-outs against the weights they removed",
            f"Scatter plot of {counted(len(rollouts), 'roll-out')}: {metric} before training. {facts}",
            "Nearly all roll-outs remove the same share. The second panel tells them apart by how unevenly they spread "
            "it over the layers: the standard deviation of the layers' ratios, weighted by their parameters."
            if is_narrow(rollouts, sizes)
            else "Upwards is better, to the right is smaller.",
            functools.partial(draw_accuracy, rollouts, sizes, report["data_title"], record.finalists, metric),
        )
    yield Picture(
        "search",
        "Reward of the search over time",
        f"Reward of {counted(len(rollouts), 'roll-out')} in order. {facts}",
        "Squares are protocols that need no search. Diamonds are the best roll-outs, solved again more carefully.",
        functools.partial(draw_search, rollouts, report["data_title"], record.finalists),
    )


def _search_facts(record: RunRecord, chosen: int, metric: str) -> str:
    rollouts, finalists = record.rollouts, record.finalists
    given = [r for r in rollouts if r["source"] != AGENT]
    agent = [r for r in rollouts if r["source"] == AGENT]
    facts = []
    if given:
        best = max(given, key=lambda r: r["reward"])
        facts.append(f"Best of the given protocols: {best['source']} with reward {best['reward']:.3f}.")
    if agent:
        facts.append(f"Best of the agent: reward {max(r['reward'] for r in agent):.3f}.")
    row = next((r for r in rollouts if r["index"] == chosen), None)
    if row is not None:
        solved = next((f["reward"] for f in finalists if f["index"] == chosen), None)
        again = "" if solved is None else f", reward {solved:.3f} when solved again"
        facts.append(f"Chosen: roll-out {chosen} ({row['source']}), {metric} {rollout_accuracy(row):.3f}{again}.")
    return " ".join(facts)


def _training_pictures(record: RunRecord) -> Iterator[Picture]:
    metric = Quality.of(record.report).name
    for name, history in record.histories.items():
        if not history:
            continue
        last = history[-1]
        validated = [row["validation_accuracy"] for row in history if row.get("validation_accuracy") is not None]
        facts = [f"{counted(last['step'], 'iteration')}.", f"Loss {history[0]['loss']:.3f} to {last['loss']:.3f}."]
        if validated:
            facts.append(f"Validation {metric} {validated[0]:.3f} at first, {validated[-1]:.3f} at the end.")
        if any(row["sparsity"] for row in history):
            first, final = (percent(row["sparsity"], 1) for row in (history[0], last))
            facts.append(f"Sparsity {first} at first, {final} at the end.")
        subject = TRAININGS.get(name, name)
        yield Picture(
            f"training_{name}",
            f"Training {subject}",
            f"Curves of {metric}, loss, sparsity and learning rate. {' '.join(facts)}",
            f"Training {subject}, over its iterations.",
            functools.partial(draw_training, history, record.report["data_title"], metric),
        )


def _round_pictures(record: RunRecord) -> Iterator[Picture]:
    rounds, quality = record.report.get("rounds"), Quality.of(record.report)
    if rounds:
        texts = [f"{percent(row['sparsity'], 1)} removed: {quality.text(row['accuracy'])}" for row in rounds]
        yield Picture(
            "lottery_ticket",
            f"Test {quality.name} after each round",
            f"Test {quality.name} by weights removed. {'; '.join(texts)}.",
            "Each round removes the same share of the weights that are left and trains again from the beginning.",
            functools.partial(draw_rounds, rounds, record.report["data_title"], quality.name),
        )


def _layer_pictures(record: RunRecord) -> Iterator[Picture]:
    report, layers = record.report, record.report["layers"]
    if report["compressed"] is None or not any(layer["sparsity"] for layer in layers):
        return
    most, least = (choose(layers, key=lambda layer: layer["sparsity"]) for choose in (max, min))
    alt = (
        f"Bars of {counted(len(layers), 'layer')}. Most was removed from {layer_name(most['path'])} "
        f"({percent(most['sparsity'], 1)}), least from {layer_name(least['path'])} ({percent(least['sparsity'], 1)}); "
        f"{percent(report['compressed']['sparsity'], 1)} over all."
    )
    yield Picture(
        "layers",
        "Weights removed from each layer",
        alt,
        "A bar is as wide as its layer has parameters, so the blue area is the part of all prunable weights removed.",
        functools.partial(draw_layers, layers, report["data_title"]),
    )
    yield Picture(
        "ratios",
        "Pruning ratio of each layer",
        alt,
        "Above the share removed, below the parameters kept, on a log scale.",
        functools.partial(draw_ratios, layers, report["data_title"]),
        is_on_page=False,
    )


def _kernel_pictures(record: RunRecord) -> Iterator[Picture]:
    kernels, title = record.kernels, record.report["data_title"]
    if not kernels:
        return
    path = max(kernels, key=lambda name: kernels[name].before.size)
    before, after = (weights[weights != 0] for weights in kernels[path])
    yield Picture(
        "weights",
        "Weights of the largest layers before and after",
        f"Histograms of the largest layers' weights that are not zero. The largest, {layer_name(path)}: "
        f"{before.size:,} of mean size {_mean_size(before):.3g} before, {after.size:,} of mean size "
        f"{_mean_size(after):.3g} after.",
        "Zeros are left out of the curve after; how many there are stands above each panel.",
        functools.partial(draw_weights, kernels, title),
    )
    shown = shown_masks(kernels)
    if shown:
        names = " and ".join(layer_name(path) for path in shown)
        yield Picture(
            "masks",
            "Weights kept in single kernels",
            f"Which weights of {names} are kept, as squares in a grid of outputs and inputs.",
            "Each square is a weight that is kept: its area tells its size, its colour its sign.",
            functools.partial(draw_masks, kernels, title),
        )
