import dataclasses

import pytest

from export.page.content import report_document
from export.page.tables import bytes_table, exports_table, layers_table, rounds_table, stages_table
from export.run_record import RunRecord
from tests.export.page.records import bare_record, exports, full_record, report, rounds


def titles(record):
    return [section.title for section in report_document(record).sections]


def texts(table):
    return [[cell.text for cell in row.cells] for row in table.rows]


def test_a_run_that_has_everything_shows_it_in_order():
    document = report_document(full_record(), {"seed": 0})
    kinds = [(s.title, [block.kind for block in s.blocks]) for s in document.sections]
    assert kinds == [
        ("Key figures", ["warning", "key_figures"]),
        ("Exported files", ["table", "paragraph", "paragraph", "picture", "picture"]),
        ("What the search tried", ["picture", "picture"]),
        ("Training", ["paragraph", "picture", "picture"]),
        ("Rounds", ["picture", "table"]),
        ("Layers and weights", ["picture", "picture", "picture", "table", "table"]),
        ("Time", ["table"]),
        ("How the ratios were found", ["pairs"]),
        ("Versions and configuration", ["pairs", "pairs"]),
        ("Notes", ["bullets"]),
    ]
    assert len({section.identity for section in document.sections}) == len(document.sections)


def test_what_a_run_does_not_have_has_no_heading():
    assert titles(bare_record()) == ["Key figures", "Layers and weights", "Time", "Versions and configuration"]
    with_notes = dataclasses.replace(bare_record(), report={**bare_record().report, "notes": ["n"], "stages": []})
    assert titles(with_notes) == ["Key figures", "Layers and weights", "Versions and configuration", "Notes"]


@pytest.mark.parametrize(("record", "count"), [(full_record(), 1), (bare_record(), 0)])
def test_only_the_embedded_data_set_is_warned_of(record, count):
    blocks = report_document(record).sections[0].blocks
    assert [block.kind for block in blocks].count("warning") == count


def test_key_figures_are_those_of_the_report():
    figures = {f.name: f for f in report_document(full_record()).sections[0].blocks[-1].figures}
    assert figures["Prunable weights removed"].value == "90.00%"
    assert figures["Test accuracy"][1:] == ("91.15%", "90.30% before, +0.85 points")
    assert figures["Test top-5 accuracy"].value == "98.75%"
    assert figures["Smallest sound file"][1:] == ("0.041 MB", "TrimFlow, 256 values; dense 1.10 MB")
    assert figures["Fastest sound file"][1:] == ("2.3\N{MULTIPLICATION SIGN}", "LiteRT, int8 weights, one thread")
    # 216 weights stay, 1152 lose three quarters, 160 half.
    assert figures["FLOPs left"][1:] == ("100.0%", f"{100 * (216 + 288 + 80) / 1528:.1f}% with zeros left out")
    assert figures["Time of the run"].value == "3 min 23 s"


def test_a_network_without_filters_computes_less():
    smaller = report(
        dense={"accuracy": 0.9, "flops": 1000}, compressed={"accuracy": 0.9, "sparsity": 0.75, "flops": 250}
    )
    record = dataclasses.replace(full_record(), report=smaller)
    figures = {f.name: f for f in report_document(record).sections[0].blocks[-1].figures}
    assert figures["FLOPs left"].value == "25.0%"


def test_the_exports_table_has_every_file_and_marks_two():
    table = exports_table(report(exports=exports()))
    assert [row[0] for row in texts(table)][:2] == ["dense network, LiteRT float32", "Keras"]
    assert len(table.rows) == 13
    assert [row.cells[0].aside for row in table.rows if row.is_best] == [
        "fastest sound file; model.litert-int8",
        "smallest sound file; model.trim-256",
    ]
    names = [column.name for column in table.columns]
    row = dict(zip(names, table.rows[5].cells, strict=True))
    assert row["Bytes, of dense"] == ("305,000", "27.7%", 1)  # 305 / 1103
    assert row["gzip"].text == "289,750"
    assert row["Accuracy"].text == "91.05%"
    assert row["Agreement"].text == "98.40%"
    assert row["Largest difference"].text == "3.1e-01"
    assert row["ms, 1 thread"] == ("1.05", "0.997 to 1.26", 1)
    assert row["Peak memory"].text == "5.2 MB"


def test_a_refused_file_has_its_reason_over_the_whole_row():
    table = exports_table(report(exports=exports()))
    (row,) = [row for row in table.rows if row.cells[0].text == "LiteRT, all int8"]
    assert row.cells[1] == ("Not made: its own runtime refuses it: no", "", len(table.columns) - 1)


@pytest.mark.parametrize("threads", [1, 2])
def test_every_row_is_as_wide_as_the_table(threads):
    full = report(exports=exports() | {"threads": threads}, rounds=rounds())
    for table in (f(full) for f in (exports_table, layers_table, bytes_table, rounds_table, stages_table)):
        widths = {sum(cell.span for cell in row.cells) for row in table.rows}
        assert widths == {len(table.columns)}
        assert len(table.footer) in (0, len(table.columns))
    assert len(exports_table(full).columns) == 8 + threads


def test_layers_are_totalled_with_their_weights():
    table = layers_table(report())
    assert texts(table)[1] == [
        "block.conv",
        "3\N{MULTIPLICATION SIGN}3\N{MULTIPLICATION SIGN}8\N{MULTIPLICATION SIGN}16",
        "1,152",
        "75.00%",
        "75.00%",
        "0.23",
        "0.06",
    ]
    removed = f"{100 * (0.75 * 1152 + 0.5 * 160) / 1528:.2f}%"
    assert [cell.text for cell in table.footer] == ["Total", "", "1,528", removed, removed, "0.31", "0.12"]


def test_a_target_that_the_weights_decide_is_none():
    layers = [row | {"target_ratio": None} for row in report()["layers"]]
    table = layers_table(report(layers=layers))
    assert {row[3] for row in texts(table)} == {"\N{EN DASH}"}
    assert table.footer[3].text == "\N{EN DASH}"


def test_a_dense_network_has_no_columns_of_what_was_removed():
    names = [column.name for column in layers_table(report(compressed=None)).columns]
    assert names == ["Layer", "Shape", "Parameters", "MFLOPs"]


def test_bytes_of_the_kernels_are_added_up():
    table = bytes_table(report(exports=exports()))
    assert [cell.text for cell in table.footer][:3] == ["Total", "382", "6,112"]
    assert [column.name for column in table.columns][-1] == "Ideal, 16 values"


def test_settings_are_told_as_the_flags_have_them():
    settings = {"enbl_dst": True, "save_path": "", "lrn_rate_init": 0.1}
    (section,) = [s for s in report_document(bare_record(), settings).sections if s.identity == "configuration"]
    assert section.blocks[-1].pairs == [("enbl_dst", "true"), ("save_path", "(empty)"), ("lrn_rate_init", "0.1")]


def test_skipped_images_are_noted():
    record = dataclasses.replace(bare_record(), report={**bare_record().report, "skipped_images": ["a", "b"]})
    assert report_document(record).sections[-1].blocks[0].items == [
        "Left out, as they cannot be decoded: 2 images (see report.json)."
    ]


def test_a_teacher_is_named():
    taught = report(distillation={"teacher": "itself", "loss_weight": 4.0, "temperature": 2.5})
    record = dataclasses.replace(full_record(), report=taught)
    (section,) = [s for s in report_document(record).sections if s.identity == "training"]
    assert section.blocks[0].text.endswith("The teacher was itself, with weight 4 and temperature 2.5.")


def test_a_dense_network_has_files_too():
    record = RunRecord(report(compressed=None, search=None, exports=exports()))
    document = report_document(record)
    assert [section.title for section in document.sections][:2] == ["Key figures", "Exported files"]
    assert document.lead == (
        "ResNet-20: accuracy 90.30%, file 1.10 MB \N{RIGHTWARDS ARROW} 0.041 MB (TrimFlow, 256 values), "
        "2.3\N{MULTIPLICATION SIGN} faster as LiteRT, int8 weights."
    )
    reasons = document.sections[1].blocks[2].text
    assert reasons.startswith("int8 is faster")  # nothing was pruned, so there is nothing to say of zeros
