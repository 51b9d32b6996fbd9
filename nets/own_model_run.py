"""Compresses a network of your own: give this file to run_local.sh or main.py, with --own_model and --own_data."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    import main

    main.run(sys.argv)
else:
    from nets.own_model import OwnModelHelper as ModelHelper  # noqa: F401
