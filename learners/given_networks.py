"""Dense networks that were trained elsewhere: where the flags say they are."""

from pathlib import Path
from urllib.parse import urlsplit

import keras

from learners.config import RunConfig
from learners.download import download
from learners.network_files import load_network
from nets.model_helper import ModelHelper
from utils.run_dir import RunDir


def take_given(config: RunConfig, helper: ModelHelper, run_dir: RunDir, model: keras.Model) -> str | None:
    """Gives `model` the weights of a dense network trained elsewhere: its source, or None where none is given."""
    if helper.has_trained_weights:
        return helper.weights_source
    given = Path(config.run.save_path)
    if config.run.save_path and given.exists():
        load_network(given, model)
        return str(given)
    if not config.run.model_http_url:
        return None
    source = network_url(config.run.model_http_url, helper.model_name, helper.dataset_name)
    fetched = download(source, run_dir.file("dense", "download.keras"), config.run.allow_plain_http)
    try:
        load_network(fetched, model)
    finally:
        fetched.unlink()
    return source


def network_url(url: str, network: str, dataset: str) -> str:
    """`--model_http_url` itself where it names a file, else that of the network below it."""
    return url if urlsplit(url).path.endswith(".keras") else f"{url.rstrip('/')}/{network}_at_{dataset}.keras"
