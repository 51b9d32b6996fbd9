"""Compresses simplenet on CIFAR-10: give this file to run_local.sh or main.py, or run it."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    import main

    main.run(sys.argv)
else:
    from nets.simplenet_at_cifar10 import ModelHelper  # noqa: F401
