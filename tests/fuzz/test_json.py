"""JSON that is read back: reports, configurations, commands, exports and sweeps of earlier runs."""

import io
import json

import keras

from commands.export import finished_run
from commands.sweep import _exported
from datasets.ilsvrc12.conversion_state import STATE_FILE, read_finished
from export.comparison.comparison import compare_runs
from export.comparison.record import comparison_record
from export.comparison.runs import read_runs
from export.comparison.terminal import print_comparison
from export.exports import digest, read_exports
from export.report import format_table, read_report, summary_sentence
from learners.weight_sparsification.sweep_family import FILE_NAME, FamilyDir, is_finished, work_done
from learners.weight_sparsification.sweep_plan import Member
from tests.export.comparison import small_runs
from tests.export.page import records
from tests.fuzz.driver import fuzz, put
from tests.fuzz.mutations import json_file
from utils.errors import InputError
from utils.version import VERSION

REPORT = records.report(
    exports=records.exports(),
    rounds=records.rounds(),
    notes=["A note."],
    versions={"trimflow": VERSION, "tensorflow": "2.21.0"},
    distillation={"teacher": "resnet_56", "loss_weight": 4.0, "temperature": 4.0},
)


def test_a_report_is_read_whole_or_refused(tmp_path):
    path = tmp_path / "report.json"

    def read(content):
        put(path, content)
        report = read_report(tmp_path)
        assert summary_sentence(report)
        if not len(content) % 20:  # it takes long
            assert format_table(report | {"exports": REPORT["exports"]})

    fuzz(lambda rng: json_file(rng, REPORT), read, inputs=500, names=str(path))


def test_runs_are_compared_or_refused(tmp_path):
    other = small_runs.write_run(tmp_path / "sound", dataset=REPORT["dataset"])
    run = small_runs.write_run(tmp_path / "fuzzed")
    sound = {"report.json": REPORT, "config.json": small_runs.CONFIG}

    def draw(rng):
        damaged = rng.choice(("report.json", "report.json", "config.json"))
        return {
            name: json_file(rng, value) if name == damaged else json.dumps(value).encode()
            for name, value in sound.items()
        }

    def read(files):
        for name, content in files.items():
            put(run / name, content)
        comparison = compare_runs(read_runs([other, run]))
        json.dumps(comparison_record(comparison, tmp_path), allow_nan=False)
        print_comparison(comparison, io.StringIO())

    fuzz(draw, read, inputs=500, names="fuzzed")


def test_a_run_is_exported_again_or_refused(tmp_path, monkeypatch):
    run = small_runs.write_run(tmp_path / "run")
    (tmp_path / "data.npz").write_bytes(b"")
    sound = {
        "report.json": REPORT,
        "command.json": {
            "script": "nets/lenet_at_cifar10_run.py",
            "flags": ["--learner=weight-sparse", "--seed=3", "--ws_prune_ratio=0.5", "--quiet"],
            "directory": str(tmp_path),
        },
        "stages.json": {"dense": {"seconds": 1.5, "accuracy": 0.9}, "paths": {"seconds": 2.0}},
    }

    def draw(rng):
        damaged = rng.choice(list(sound))
        files = {
            name: json_file(rng, value) if name == damaged else json.dumps(value).encode()
            for name, value in sound.items()
        }
        if damaged == "stages.json":
            del files["report.json"]
        return files

    def read(files):
        for name in sound:
            (run / name).unlink(missing_ok=True)
        for name, content in files.items():
            put(run / name, content)
        found = finished_run(run)
        assert found.directory.is_dir()
        assert found.report["versions"]["trimflow"] == VERSION

    fuzz(draw, read, inputs=500, errors=(InputError,))


def test_a_sweep_is_gone_on_with_or_refused(tmp_path):
    sound = {
        "net": "resnet_at_cifar10_run.py",
        "flags": {"seed": 0, "learner": "weight-sparse"},
        "ratios": [0.5, 0.9],
        "commands": {"ratio_0.5": "python main.py ..."},
        "facts": {"title": "ResNet-20", "state_bytes": 100, "peak_bytes": 1000, "has_trained_weights": False},
        "seconds": {"dense": 1.5},
    }
    family = FamilyDir(tmp_path)

    def read(content):
        put(tmp_path / FILE_NAME, content)
        family.check(sound["net"], sound["flags"], sound["ratios"], False)
        family.record(peak_bytes=2000)
        family.add_seconds("members", 1.0)
        assert family.known()["facts"]["peak_bytes"] == 2000

    fuzz(lambda rng: json_file(rng, sound), read, inputs=500, names=str(tmp_path))


def test_members_of_a_sweep_are_taken_for_finished_only_where_they_are(tmp_path):
    member = Member("ratio_0.5", "0.5", tmp_path, ("net.py", "--ws_prune_ratio=0.9", "--seed=0"))
    sound = {"config.json": small_runs.CONFIG, "report.json": REPORT, "stages.json": {"dense": {"seconds": 1.0}}}

    def draw(rng):
        damaged = rng.choice(list(sound))
        return {
            name: json_file(rng, value) if name == damaged else json.dumps(value).encode()
            for name, value in sound.items()
        }

    def read(files):
        for name, content in files.items():
            put(tmp_path / name, content)
        assert work_done(member) >= 0
        if not is_finished(member):
            raise InputError("it is run again")
        assert {"keras", "trim"} <= _exported(member) | {"keras", "trim"}

    fuzz(draw, read, inputs=500)


def test_a_record_of_exports_is_taken_only_where_it_is_whole(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    sound = records.exports() | {"model_digest": digest(model, model)}
    for row in (sound["dense"], *sound["formats"]):
        if "file" in row:
            row["nonzero_weights"] = 2
            (tmp_path / row["file"]).parent.mkdir(exist_ok=True)
            (tmp_path / row["file"]).touch()

    def read(content):
        put(tmp_path / "exports" / "exports.json", content)
        found = read_exports(tmp_path, model, model)
        if found is None:
            raise InputError("made anew")
        if not len(content) % 10:
            assert format_table(REPORT | {"exports": found})

    fuzz(lambda rng: json_file(rng, sound), read, inputs=300)


def test_the_state_of_a_conversion_is_read_or_refused(tmp_path):
    shard = {"bytes": 10, "records": 3, "verified": False}
    sound = {"settings": {"train": 1024, "size": 0}, "shards": {"train-00000-of-00001": shard}}

    def read(content):
        put(tmp_path / STATE_FILE, content)
        settings, shards = read_finished(tmp_path)
        assert isinstance(settings, dict)
        assert all(shard["records"] >= 0 for shard in shards.values())

    fuzz(lambda rng: json_file(rng, sound), read, inputs=500, names=str(tmp_path / STATE_FILE))
