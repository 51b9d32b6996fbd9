"""Where the user stands: run_local.sh goes to the repository's root, but paths are meant from where it was called."""

import os
from pathlib import Path

from utils.errors import InputError

VARIABLE = "TRIMFLOW_CALLER_DIRECTORY"  # set by run_local.sh


def caller_directory() -> Path:
    """The directory that the program was called from."""
    return Path(os.environ.get(VARIABLE) or Path.cwd()).absolute()


def find_from_caller(flag: str, word: str, root: Path) -> Path:
    """The absolute path of what `word` names, looked up from the caller's directory, then from `root`.

    Raises:
        InputError: it is in neither; both places are named.
    """
    path = Path(word).expanduser()
    places = [path] if path.is_absolute() else [caller_directory() / path, root / path]
    for place in places:
        if os.path.exists(place):  # unlike Path's, also of a name that is too long
            return place
    told = " nor ".join(dict.fromkeys(map(str, places)))
    raise InputError(f"{flag} must be there. Received: {word!r}, but there is no {told}")
