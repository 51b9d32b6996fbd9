"""Files of a comparison, written whole or not at all.

`utils.run_dir` does the same and more, but loads TensorFlow, which is most of the time that a comparison would take.
"""

import os
from pathlib import Path

from utils.errors import RunError


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 beside `path` and renames it: a reader sees the old file or the new one.

    Half a character, as a damaged name may hold, becomes "?".

    Raises:
        RunError: the file cannot be written; the one that was there stays.
    """
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(text.encode("utf-8", "replace"))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        kept = f"the last good {path.name} stays" if path.is_file() else "nothing was overwritten"
        raise RunError(f"cannot write {path}: {error.strerror or error}; {kept}") from error
