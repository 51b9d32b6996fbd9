"""ILSVRC-12 (ImageNet) in TFRecord files: read by `dataset.py`, made from folders of pictures by `conversion.py`."""
