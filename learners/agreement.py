"""Whether the workers of one run are alike: the same program, packages, flags and data on every machine."""

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nets.model_helper import ModelHelper
from utils.errors import InputError
from utils.workers import Workers, difference, from_all

PACKAGES = ("tensorflow", "keras", "numpy", "horovod")
FOLDERS = ("compressors", "datasets", "export", "learners", "nets", "rl_agents", "utils")


def check_agreement(workers: Workers, root: Path, helper: ModelHelper, identity: Mapping[str, Any]) -> None:
    """Raises InputError where a worker has other code, packages, flags or data than rank 0.

    Args:
        root: of the program.
        identity: flag name -> what the result depends on.
    """
    if workers.size == 1:
        return
    alike = {
        "the program's code (its hash)": code_digest(root),
        "the versions of the packages": _versions(),
        "the flags": tuple(sorted((name, str(value)) for name, value in identity.items())),
        "the data (images and hash of the labels)": from_all(workers, lambda: helper.dataset.fingerprint()),
    }
    for what, value in alike.items():
        found = difference(workers, value)
        if found:
            raise InputError(f"{what} must be the same on all workers. Received: {found}")


def code_digest(root: Path) -> str:
    """A short hash of the names and contents of the program's Python files."""
    hashed = hashlib.sha256()
    for path in [root / "main.py", *sorted(path for name in FOLDERS for path in (root / name).rglob("*.py"))]:
        content = path.read_bytes()
        hashed.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode())
        hashed.update(content)
    return hashed.hexdigest()[:12]


def _versions() -> str:
    found = [f"python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:  # tensorflow-cpu is another package with the same modules
            found.append(f"{name} {importlib.metadata.version(f'{name}-cpu')}")
    return ", ".join(found)
