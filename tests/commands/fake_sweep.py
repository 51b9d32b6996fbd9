"""Stand-ins for the processes of a sweep: they write at once what a run leaves, or fail or hang as they are told."""

import json
import sys
from pathlib import Path

from commands.sweep import Programs
from export.config import DEFAULT_FORMATS
from tests.export.comparison.small_runs import exports_of, file_row, report_of

FACTS = {"title": "tiny on digits32", "has_trained_weights": False, "state_bytes": 0}
PROGRAM = """
import json, os, sys, time
from pathlib import Path

control, words = Path(sys.argv[1]), sys.argv[2:]
flags = dict(word[2:].partition("=")[::2] for word in words[1:] if word.startswith("--"))
name = words[0] if words[0] == "export" else Path(flags["run_dir"]).name
with open(control / "started", "a") as file:
    file.write(json.dumps([name, words, os.environ.get("TF_NUM_INTRAOP_THREADS")]) + "\\n")
print("search: 50%, 50/100 roll-outs", flush=True)
while (control / f"hang_{name}").exists():
    (control / f"hangs_{name}").write_text(str(os.getpid()))
    time.sleep(0.01)
if (control / f"fail_{name}").exists():
    print("error: the loss is nan at step 7", flush=True)
    sys.exit(int((control / f"fail_{name}").read_text()))
if name == "export":
    for word in words[1:]:
        if not word.startswith("--"):
            path = Path(word) / "report.json"
            report = json.loads(path.read_text())
            report["exports"] = json.loads((control / "exports").read_text())
            path.write_text(json.dumps(report))
    sys.exit(0)
run_dir = Path(flags["run_dir"])
run_dir.mkdir(parents=True, exist_ok=True)
config = {"net": "tiny_at_digits32", "learner": flags["learner"], "seed": int(flags.get("seed", 0))}
report = json.loads((control / "report").read_text())
if "ws_prune_ratio" in flags:
    config["ws_prune_ratio"] = float(flags["ws_prune_ratio"])
    report["compressed"]["sparsity"] = config["ws_prune_ratio"]
(run_dir / "config.json").write_text(json.dumps(config))
(run_dir / "report.json").write_text(json.dumps(report))
"""


class FakePrograms:
    """The commands of the stand-ins, and what they did.

    `hang(name)` and `fail(name)` say what the next process of that name does: "dense", "ratio_0.5", "export".
    """

    def __init__(self, directory: Path):
        self.directory = directory
        directory.mkdir()
        (directory / "program.py").write_text(PROGRAM)
        (directory / "report").write_text(json.dumps(report_of()))
        (directory / "exports").write_text(
            json.dumps(exports_of(*(file_row(name, 1000, 0.9, 1.0) for name in DEFAULT_FORMATS)))
        )
        self.facts = dict(FACTS)

    def programs(self) -> Programs:
        start = (sys.executable, "-S", str(self.directory / "program.py"), str(self.directory))
        tell = f"print('facts: ' + {json.dumps(self.facts)!r})"
        return Programs(
            run=lambda words: (*start, *words),
            check=lambda lines: (sys.executable, "-S", "-c", self.check_code or tell),
        )

    check_code = ""

    def fail(self, name: str, code: int = 1) -> None:
        (self.directory / f"fail_{name}").write_text(str(code))

    def hang(self, name: str) -> None:
        (self.directory / f"hang_{name}").touch()

    def hangs(self, name: str) -> int:
        """The number of the process of that name that hangs; 0 as long as there is none."""
        path = self.directory / f"hangs_{name}"
        return int(path.read_text() or 0) if path.exists() else 0

    def release(self) -> None:
        """From now on all is well."""
        for path in [*self.directory.glob("hang_*"), *self.directory.glob("fail_*")]:
            path.unlink()

    def started(self) -> list[str]:
        """The names of all that was started."""
        return [name for name, _, _ in self._started()]

    def words_of(self, name: str) -> list[str]:
        """The words that the last process of that name was given."""
        return [words for started, words, _ in self._started() if started == name][-1]

    def threads_of(self, name: str) -> str:
        return [threads for started, _, threads in self._started() if started == name][-1]

    def _started(self) -> list[tuple[str, list[str], str]]:
        path = self.directory / "started"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
