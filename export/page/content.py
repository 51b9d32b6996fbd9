"""What the report of a run says, in order, as blocks that become HTML or Markdown."""

from collections.abc import Mapping
from typing import Any

from export.page.blocks import Block, Bullets, Document, KeyFigure, KeyFigures, Pairs, Paragraph, Section, Warning
from export.page.pictures import pictures
from export.page.summary import dense_bytes, summary
from export.page.tables import (
    bytes_table,
    exports_table,
    layers_table,
    rounds_table,
    stages_table,
    weights_table,
)
from export.page.verdicts import fastest_sound, reasons_paragraph, smallest_sound, speed_of, speed_paragraph
from export.page.wording import TIMES, Quality, counted, model_title, percent, sizes_text
from export.report_schema import complete_report
from export.report_tables import EMBEDDED_DATASETS, TOP_5, duration
from export.run_record import RunRecord

Report = Mapping[str, Any]


def report_document(record: RunRecord, configuration: Mapping[str, Any] | None = None) -> Document:
    """The report of a run. What the run does not have is left out, with its heading.

    Args:
        configuration: what `config.json` holds.
    """
    report = complete_report(record.report)
    drawn = {name: picture for name, picture in pictures(record).items() if picture.is_on_page}

    def shown(*names: str) -> list[Block]:
        return [drawn[name] for name in names if name in drawn]

    trainings = [name for name in drawn if name.startswith("training_")]
    sections = [
        Section("key-figures", "Key figures", [*_warnings(report), KeyFigures(_key_figures(report))]),
        Section("files", "Exported files", _files(report, shown("sizes", "latency"))),
        Section("search", "What the search tried", shown("accuracy_vs_sparsity", "search")),
        Section("training", "Training", [*_training(report), *shown(*trainings)]),
        Section("rounds", "Rounds", _rounds(report, shown("lottery_ticket"))),
        Section("layers", "Layers and weights", _layers(report, shown("layers", "weights", "masks"))),
        Section("time", "Time", [stages_table(report)] if report["stages"] else []),
        Section("search-summary", "How the ratios were found", _search(report)),
        Section("configuration", "Versions and configuration", _configuration(report, configuration or {})),
        Section("notes", "Notes", _notes(report)),
    ]
    return Document(
        title=f"{model_title(report['model'])} on {report['data_title']}",
        subtitle=f"Learner {report['learner']}, seed {report['seed']}",
        lead=f"{summary(report)}.",
        sections=[section for section in sections if section.blocks],
    )


def _warnings(report: Report) -> list[Block]:
    if report["dataset"] not in EMBEDDED_DATASETS:
        return []
    text = (
        f"Not CIFAR-10 nor ImageNet: all figures here are from {report['dataset']}, a small data set that comes with "
        "TrimFlow. They cannot be compared with figures published for those."
    )
    return [Warning(text)]


def _key_figures(report: Report) -> list[KeyFigure]:
    dense, compressed, quality = report["dense"], report["compressed"], Quality.of(report)
    figures = []
    if compressed is not None:
        figures.append(KeyFigure("Prunable weights removed", percent(compressed["sparsity"])))
    for key, name in (("accuracy", quality.name), (TOP_5, "top-5 accuracy")):
        if key not in dense:
            continue
        before, aside = quality.text(dense[key]), ""
        if compressed is not None and key in compressed:
            change = quality.change(dense[key], compressed[key])
            before, aside = quality.text(compressed[key]), f"{before} before, {change}"
        figures.append(KeyFigure(f"Test {name}", before, aside))
    figures += _size_figures(report)
    if compressed is not None and report["layers"]:
        figures.append(_flops(report))
    seconds = sum(stage["seconds"] for stage in report["stages"])
    if seconds:
        figures.append(KeyFigure("Time of the run", duration(seconds)))
    return figures


def _flops(report: Report) -> KeyFigure:
    """What the runtime computes and, where zeros could be left out, what would be left."""
    before, after = (sum(layer[key] for layer in report["layers"]) for key in ("flops_dense", "flops_sparse"))
    real_before, real_after = report["dense"].get("flops", before), report["compressed"].get("flops", before)
    zeros = f"{percent(after / max(before, 1), 1)} with zeros left out"
    return KeyFigure("FLOPs left", percent(real_after / max(real_before, 1), 1), zeros)


def _size_figures(report: Report) -> list[KeyFigure]:
    smallest, fastest = smallest_sound(report), fastest_sound(report)
    if smallest is None:
        before, after = sizes_text(dense_bytes(report), report["sizes"]["gzip_bytes"])
        return [KeyFigure("Weights, gzipped", after, f"{before} dense")]
    dense = report["exports"]["dense"]
    size = sizes_text(smallest["bytes"])[0]
    if dense.get("bytes") is not None:
        before, size = sizes_text(dense["bytes"], smallest["bytes"])
        figures = [KeyFigure("Smallest sound file", size, f"{smallest['title']}; dense {before}")]
    else:
        figures = [KeyFigure("Smallest sound file", size, smallest["title"])]
    if fastest is not None:
        speed = speed_of(fastest, dense)
        assert speed is not None, "the fastest has one"
        threads = "one thread" if speed.threads == "one_thread" else f"{report['exports']['threads']} threads"
        figures.append(KeyFigure("Fastest sound file", f"{speed.times:.1f}{TIMES}", f"{fastest['title']}, {threads}"))
    return figures


def _files(report: Report, shown: list[Block]) -> list[Block]:
    if not report.get("exports"):
        return []
    paragraphs = [Paragraph(text) for text in (speed_paragraph(report), reasons_paragraph(report)) if text]
    return [exports_table(report), *paragraphs, *shown]


def _training(report: Report) -> list[Block]:
    training, learned = report["training"], report.get("distillation")
    sentences = []
    if training is not None:
        sentences.append(
            f"{counted(training['iterations'], 'iteration')} in {duration(training['seconds'])}, "
            f"{training['images_per_second']:,.0f} images a second."
        )
    if learned is not None:
        sentences.append(
            f"The teacher was {learned['teacher']}, with weight {learned['loss_weight']:g} and temperature "
            f"{learned['temperature']:g}."
        )
    return [Paragraph(" ".join(sentences))] if sentences else []


def _rounds(report: Report, shown: list[Block]) -> list[Block]:
    return [*shown, rounds_table(report)] if report.get("rounds") else []


def _layers(report: Report, shown: list[Block]) -> list[Block]:
    tables = [layers_table(report)] if report["layers"] else []
    exports = report.get("exports")
    tables += [bytes_table(report)] if exports and exports["layers"] else [weights_table(report)]
    return [*shown, *tables]


def _search(report: Report) -> list[Block]:
    search = report["search"]
    if search is None:
        return []
    pairs = [("Protocol", search["protocol"])]
    if search["rollouts"]:
        pairs.append(("Roll-outs", f"{search['rollouts']:,}"))
    if search["seconds_per_rollout"] is not None:
        pairs.append(("Time of a roll-out", duration(search["seconds_per_rollout"])))
    if search["best_reward"] is not None:
        metric = f" ({search['reward_metric']})" if "reward_metric" in search else ""
        pairs.append((f"Best reward{metric}", f"{search['best_reward']:.4f}"))
    pairs.append(("Time of the search", duration(search["seconds"])))
    pairs.append(("The same in dense training steps", f"{search['dense_step_equivalents']:,.0f}"))
    return [Pairs("The search", pairs)]


def _configuration(report: Report, configuration: Mapping[str, Any]) -> list[Block]:
    blocks: list[Block] = [Pairs("Versions", list(report["versions"].items()))] if report["versions"] else []
    if configuration:
        blocks.append(Pairs("Flags", [(name, _setting(value)) for name, value in configuration.items()]))
    return blocks


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "(empty)" if value in ("", None) else str(value)


def _notes(report: Report) -> list[Block]:
    notes = list(report.get("notes", ()))
    skipped = report.get("skipped_images", ())
    if skipped:
        notes.append(f"Left out, as they cannot be decoded: {counted(len(skipped), 'image')} (see report.json).")
    return [Bullets(notes)] if notes else []
