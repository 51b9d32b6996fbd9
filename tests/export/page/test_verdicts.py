import pytest

from export.page.summary import summary
from export.page.verdicts import (
    fastest_sound,
    reasons_paragraph,
    smallest_sound,
    sound_rows,
    speed_of,
    speed_paragraph,
)
from tests.export.page.records import export_row, exports, milliseconds, report


def with_formats(*formats, baseline=None, **changes):
    files = exports() | {"formats": list(formats)}
    return report(exports=files | ({"dense": baseline} if baseline else {}), **changes)


def test_a_file_that_lost_more_than_a_point_or_was_refused_is_not_sound():
    names = {row["format"] for row in sound_rows(report(exports=exports()))}
    assert "trim-256" in names
    assert not names & {"trim-16", "litert-full-int8"}


def test_the_smallest_is_the_smallest_of_the_sound_ones():
    assert smallest_sound(report(exports=exports()))["format"] == "trim-256"
    assert smallest_sound(report()) is None
    only_bad = export_row("trim-16", "TrimFlow", 10, accuracy=0.5)
    assert smallest_sound(with_formats(only_bad)) is None


def test_the_fastest_must_be_sound_and_faster_than_the_dense_network():
    quick = export_row("litert-int8", "int8", 10, 0.5, one=0.1)
    sound = export_row("litert", "LiteRT", 10, one=1.0)
    same = export_row("onnx", "ONNX", 10, one=2.4)
    assert fastest_sound(with_formats(quick, sound, same))["format"] == "litert"
    assert fastest_sound(with_formats(quick, same)) is None


@pytest.mark.parametrize(
    ("mine", "dense", "times", "verdict"),
    [
        ((1.0, 0.9, 5.0), (2.0, 1.1, 3.0), 2.0, "faster"),
        ((1.2, 0.9, 5.0), (2.0, 1.1, 3.0), 2 / 1.2, "same"),
        ((2.0, 1.0, 5.0), (1.0, 0.9, 3.0), 0.5, "same"),
        ((2.0, 1.5, 5.0), (1.0, 0.9, 3.0), 0.5, "slower"),
    ],
)
def test_speed_is_told_where_the_rounds_tell_it(mine, dense, times, verdict):
    rows = [{"one_thread": dict(zip(("median", "low", "high"), time, strict=True))} for time in (mine, dense)]
    speed = speed_of(*rows)
    assert (speed.times, speed.verdict, speed.threads) == (pytest.approx(times), verdict, "one_thread")


def test_speed_is_compared_on_as_many_threads():
    dense = {"one_thread": milliseconds(4.0), "all_threads": milliseconds(2.0)}
    assert speed_of({"one_thread": None, "all_threads": milliseconds(1.0)}, dense).times == pytest.approx(2)
    assert speed_of({"all_threads": milliseconds(1.0)}, {"one_thread": milliseconds(4.0)}) is None
    assert speed_of({"format": "x", "refused": "no"}, dense) is None


def test_the_paragraph_says_which_are_faster_which_are_not_and_which_do_not_run():
    text = speed_paragraph(report(exports=exports()))
    assert "2.41 ms on one thread and 1.62 ms on 2 threads" in text
    assert "Faster than that: LiteRT, int8 weights (2.3\N{MULTIPLICATION SIGN})." in text
    assert "About as fast: LiteRT, float32; LiteRT, sparse float32; LiteRT, float16." in text
    assert "Slower: Keras (0.17" in text
    assert text.endswith("TrimFlow, float32; TrimFlow, float16; TrimFlow, 256 values; TrimFlow, 16 values.")
    assert "all int8" not in text  # it was refused


def test_where_nothing_is_faster_the_paragraph_says_so():
    assert "None is faster." in speed_paragraph(with_formats(export_row("onnx", "ONNX", 10, one=2.4)))
    refused = {"format": "dense", "title": "dense", "refused": "no"}
    text = speed_paragraph(with_formats(export_row("onnx", "ONNX", 10, one=2.4), baseline=refused))
    assert text == "Measured on 2 cores, a processor of some kind, Linux, one example at a time."


def test_the_reasons_follow_the_figures():
    text = reasons_paragraph(report(exports=exports()))
    assert text.startswith("90.0% of the weights in the kernels are zeros")
    assert "save bytes and no time" in text
    assert "int8 is faster" in text
    assert "filters" not in text
    slow = with_formats(
        export_row("litert-int8", "int8", 10, one=2.4), export_row("litert-sparse", "sparse", 10, one=1.0)
    )
    text = reasons_paragraph(slow)
    assert "not faster here" in text
    assert "sparse kernels skip them" in text


def test_a_network_made_smaller_is_faster_everywhere_where_the_figures_show_it():
    sizes = report()["sizes"] | {"nonzero_kernel_weights": 270_896}
    changes = {
        "dense": {"accuracy": 0.903, "flops": 80_000_000, "parameters": 274_042},
        "compressed": {"accuracy": 0.9, "sparsity": 0.75, "flops": 20_000_000, "parameters": 70_000},
        "sizes": sizes,
    }
    quick, slow = (with_formats(export_row("litert", "LiteRT", 10, one=one), **changes) for one in (1.0, 2.4))
    start = "Whole filters were removed: 75.0% fewer FLOPs, which saves time in every runtime, "
    assert reasons_paragraph(quick) == f"{start}as LiteRT float32 shows."
    assert reasons_paragraph(slow) == f"{start}though not measurably here."


def test_no_reasons_where_nothing_was_timed():
    assert reasons_paragraph(with_formats(export_row("trim", "TrimFlow", 10))) == ""


def test_the_summary_names_what_was_measured():
    assert summary(report(exports=exports())) == (
        "ResNet-20: 90.0% fewer prunable weights, accuracy 90.30% \N{RIGHTWARDS ARROW} 91.15%, "
        "file 1.10 MB \N{RIGHTWARDS ARROW} 0.041 MB (TrimFlow, 256 values), "
        "2.3\N{MULTIPLICATION SIGN} faster as LiteRT, int8 weights"
    )


def test_the_summary_of_less_says_less():
    weights = "weights 1.10 MB \N{RIGHTWARDS ARROW} 0.15 MB gzipped"
    assert summary(report()).endswith(f"91.15%, {weights}")
    assert summary(report(compressed=None)) == f"ResNet-20: accuracy 90.30%, {weights}"
    refused = {"format": "dense", "title": "dense", "refused": "no"}
    text = summary(with_formats(export_row("trim", "TrimFlow", 118_000), baseline=refused))
    assert text.endswith("file 118 kB (TrimFlow)")


def test_a_smaller_network_is_compared_with_the_dense_one():
    text = summary(report(dense={"accuracy": 0.9, "parameters": 1_000_000}))
    assert "weights 4.00 MB" in text
