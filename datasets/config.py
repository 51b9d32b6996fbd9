"""Options of the data: where it lies, how much of it is used, how it is batched."""

from dataclasses import dataclass

from utils.flags import flag


@dataclass(frozen=True)
class DataConfig:
    """Data"""

    disk: str = flag(
        "",
        "local | hdfs | embedded; unset: where a directory is configured, else embedded",
        name="data_disk",
        affects_result=False,
    )
    local_directory: str = flag(
        "", "directory of the data set on this machine", name="data_dir_local", affects_result=False
    )
    hdfs_directory: str = flag("", "directory of the data set on HDFS", name="data_dir_hdfs", affects_result=False)
    hdfs_host: str = flag(
        "",
        "HDFS name node, host:port; unset: the one Hadoop is set up for",
        name="data_hdfs_host",
        affects_result=False,
    )
    num_training_images: int = flag(0, "training images used, the first ones; 0: all", name="nb_smpls_train", minimum=0)
    num_validation_images: int = flag(
        0, "training images kept for validation, the last ones; 0: the data set's own", name="nb_smpls_val", minimum=0
    )
    num_test_images: int = flag(0, "test images used, the first ones; 0: all", name="nb_smpls_eval", minimum=0)
    batch_size: int = flag(128, "images in a training batch of one worker", minimum=1)
    evaluation_batch_size: int = flag(100, "images in an evaluation batch", name="batch_size_eval", minimum=1)
