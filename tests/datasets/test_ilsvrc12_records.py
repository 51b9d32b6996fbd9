import fsspec
import pytest

from datasets.ilsvrc12.index import index_shards
from datasets.ilsvrc12.records import RecordFiles, parse_record
from datasets.ilsvrc12.shards import find_shards
from tests.ilsvrc12_files import example, examples, jpeg, write_ilsvrc12
from utils.errors import InputError

LOCAL = fsspec.filesystem("file")


def files_in(directory, num_classes=10):
    shards = find_shards(LOCAL, str(directory))["train"]
    return RecordFiles(LOCAL, index_shards(LOCAL, shards, quiet=True), num_classes)


def test_any_record_is_read_by_its_number(tmp_path):
    files = files_in(write_ilsvrc12(tmp_path))
    assert len(files) == 33
    for number in (32, 0, 10, 11, 21, 22):
        record = files.read(number)
        assert (record.encoded, record.label) == (jpeg(number), number % 10)
        place = f"record {number % 11} of {tmp_path}/train-{number // 11:05}-of-00003"
        assert record.name == f"{place}, {number}.JPEG"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"image/encoded": None},
            r"one bytes value image/encoded and .*features image/channels \(int64_list\), .*in here$",
        ),
        ({"image/encoded": 7}, r"image/encoded \(int64_list\).* in here$"),
        ({"image/class/label": None}, "one int64 value image/class/label. Received: features .* in here$"),
        ({"image/class/label": b"3"}, r"image/class/label \(bytes_list\)"),
        ({"image/class/label": 0}, r"image/class/label must be 1 to 10 \(--nb_classes\). Received: 0 in here$"),
        ({"image/class/label": 11}, r"must be 1 to 10 \(--nb_classes\). Received: 11 in here$"),
    ],
)
def test_records_that_lack_something_or_have_a_wrong_label(changes, message):
    with pytest.raises(InputError, match=message):
        parse_record(example(b"x", 3, "a.JPEG", **changes), "here", 10)


def test_records_with_no_more_than_is_needed():
    few = {key: None for key in ("filename", "class/synset", "class/text", "height", "width", "channels", "format")}
    record = parse_record(example(b"x", 10, "", **{f"image/{key}": None for key in few}), "here", 10)
    assert record == (b"x", 9, "here")


def test_a_record_that_is_no_example():
    with pytest.raises(InputError, match="each record must be a tf.train.Example. Received: here"):
        parse_record(b"\xff\xff\xff hello", "here", 10)


def test_the_first_record_of_each_file_is_looked_at(tmp_path):
    records = examples(12)
    files_in(write_ilsvrc12(tmp_path / "good", train=records)).check_first_records()
    records[8] = example(jpeg(8), 0, "8.JPEG")  # the first of the third file
    with pytest.raises(InputError, match="Received: 0 in record 0 of .*train-00002-of-00003"):
        files_in(write_ilsvrc12(tmp_path / "bad", train=records)).check_first_records()


@pytest.mark.parametrize("change", ["shorter", "other", "gone"])
def test_files_that_change_after_they_were_indexed(tmp_path, change):
    files = files_in(write_ilsvrc12(tmp_path))
    path = tmp_path / "train-00001-of-00003"
    if change == "shorter":
        path.write_bytes(path.read_bytes()[:-5])
    elif change == "other":
        path.write_bytes((tmp_path / "train-00000-of-00003").read_bytes() + bytes(20_000))
    else:
        path.unlink()
    message = "cannot read .*train-00001" if change == "gone" else "not what it was when its file was indexed"
    with pytest.raises(InputError, match=message):
        files.read(21)
