"""`model.trim.npz`, the compact form: places and values of the weights that are not zero, entropy-coded."""

from export.trim.bounds import ideal_bytes
from export.trim.file import MAX_BYTES, load_trim, save_trim, trim_layer_bytes
from export.trim.kinds import VALUES

__all__ = ["MAX_BYTES", "VALUES", "ideal_bytes", "load_trim", "save_trim", "trim_layer_bytes"]
