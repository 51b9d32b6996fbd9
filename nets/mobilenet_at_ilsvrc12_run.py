"""Compresses MobileNet v1 or v2 on ILSVRC-12: give this file to run_local.sh or main.py, or run it."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    import main

    main.run(sys.argv)
else:
    from nets.mobilenet_at_ilsvrc12 import ModelHelper  # noqa: F401
