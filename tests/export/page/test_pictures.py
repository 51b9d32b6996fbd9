import dataclasses

import pytest

from export.page.pictures import picture_files, pictures
from tests.export.page.records import bare_record, full_record, hostile_record, report

NAMES = {
    "sizes",
    "latency",
    "accuracy_vs_sparsity",
    "search",
    "training_dense",
    "training_training",
    "lottery_ticket",
    "layers",
    "ratios",
    "weights",
    "masks",
}


def test_each_picture_is_a_file_and_its_bytes(tmp_path):
    contents = picture_files(full_record(), tmp_path / "plots")
    assert set(contents) == NAMES
    for name, content in contents.items():
        assert content.startswith(b"\x89PNG")
        assert (tmp_path / "plots" / f"{name}.png").read_bytes() == content
    assert len(list((tmp_path / "plots").iterdir())) == len(NAMES)


def test_a_run_has_pictures_of_what_it_has():
    assert pictures(bare_record()) == {}
    searched = dataclasses.replace(full_record(), report=report(), histories={}, kernels={})
    assert set(pictures(searched)) == {"accuracy_vs_sparsity", "search", "layers", "ratios"}
    trained = dataclasses.replace(full_record(), report=report(compressed=None), rollouts=(), kernels={})
    assert set(pictures(trained)) == {"training_dense", "training_training"}


@pytest.mark.parametrize("record", [full_record(), hostile_record()])
def test_every_picture_says_in_words_what_it_shows(record):
    found = pictures(record).values()
    assert all(len(picture.alt) > 40 and picture.title and picture.caption for picture in found)


def test_the_words_hold_the_figures():
    found = pictures(full_record())
    assert "TrimFlow, 256 values: 41 kB" in found["sizes"].alt
    assert "LiteRT, int8 weights: 1.05 ms on one thread, 0.997 to 1.26" in found["latency"].alt
    assert "Best of the given protocols: dp with reward 0.805." in found["search"].alt
    assert "Chosen: roll-out 9 (agent), accuracy 0.845, reward 0.870 when solved again." in found["search"].alt
    assert "Most was removed from block.conv (75.0%), least from conv1 (0.0%)" in found["layers"].alt
    assert "78.4% removed: 87.00%" in found["lottery_ticket"].alt  # 1 - 0.6 ** 3
    assert "1,152 of mean size" in found["weights"].alt
    assert "conv1 and block.conv" in found["masks"].alt


def test_roll_outs_of_other_layers_than_the_report_has_are_not_weighed():
    record = full_record()
    other = [row | {"ratios": {"gone/kernel": 0.5}} for row in record.rollouts]
    assert "accuracy_vs_sparsity" not in pictures(dataclasses.replace(record, rollouts=other))
