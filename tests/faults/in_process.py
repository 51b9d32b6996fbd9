"""Whole runs of the program in the test's own process, which saves TensorFlow's start."""

import contextlib
import io
import json
import signal
import sys
from pathlib import Path

import keras
import pytest

import main

ROOT = Path(main.__file__).resolve().parent
TINY = "tests/nets_for_tests/tiny_at_cifar10_run.py"
FEW = "--data_disk embedded --model_http_url= --nb_smpls_train 64 --nb_smpls_val 40 --nb_smpls_eval 40 --batch_size 16"
FEW += " --nb_epochs_rat 0.25 --summ_step 4 --save_step 4 --quiet --export_formats none"


def run(run_dir, *flags, code=0):
    """Runs the program on a little network; what it said on stderr."""
    return run_words(TINY, "--run_dir", str(run_dir), *FEW.split(), *flags, code=code)


def run_words(*words, code=0):
    """Runs the program with these arguments; what it said on stderr. Where it fails that is one error."""
    said, handler = io.StringIO(), signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(sys, "path", list(sys.path))
        try:
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(said),
                pytest.raises(SystemExit) as stop,
            ):
                main.run(["main.py", *words])
        finally:
            signal.signal(signal.SIGTERM, handler)
    text = said.getvalue()
    assert stop.value.code == code, text[-3000:]
    assert "Traceback" not in text
    assert text.count("error: ") == (1 if code else 0), text
    return text


def results(run_dir):
    """All that a run found out and no time: of its report, the network's weights and the search."""
    report = json.loads((run_dir / "report.json").read_text())
    kept = {key: report[key] for key in ("dense", "compressed", "layers", "sizes")}
    kept["stages"] = sorted(stage["name"] for stage in report["stages"])
    if (run_dir / "search.jsonl").exists():
        records = [json.loads(line) for line in (run_dir / "search.jsonl").read_text().splitlines()]
        times = ("seconds", "agent_seconds")
        kept["records"] = [{key: record[key] for key in record if key not in times} for record in records]
    kept["weights"] = [array.tobytes() for array in keras.models.load_model(run_dir / "model.keras").get_weights()]
    return kept


def flip(path, place=0.5):
    """Changes one bit, at that share of the file."""
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 4
    path.write_bytes(content)


def cut(path, share=0.5):
    """Cuts the file off."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
