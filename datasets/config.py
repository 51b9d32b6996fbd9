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
    num_training_images: int = flag(
        0, "training images used, the first ones (own data: drawn, of all classes); 0: all", name="nb_smpls_train",
        minimum=0,
    )  # fmt: skip
    num_validation_images: int = flag(
        0, "training images kept for validation, the last ones (own data: so many of its validation part); 0: the data "
        "set's own", name="nb_smpls_val", minimum=0,
    )  # fmt: skip
    num_test_images: int = flag(
        0, "test images used, the first ones (own data: drawn, of all classes); 0: all", name="nb_smpls_eval", minimum=0
    )
    image_size: int = flag(
        0, "pixels a side of the images of networks at ILSVRC-12; 0: 224, of the embedded set 64", minimum=0
    )
    skip_bad_images: bool = flag(
        False, "go on without images of ILSVRC-12 that cannot be decoded; they are named", affects_result=False
    )
    batch_size: int = flag(128, "images in a training batch of one worker; of own networks 32", minimum=1)
    evaluation_batch_size: int = flag(100, "images in an evaluation batch", name="batch_size_eval", minimum=1)


@dataclass(frozen=True)
class OwnDataConfig:
    """Own data (nets/own_model_run.py)"""

    source: str = flag(
        "",
        "a directory with a folder of images for each class, an .npz file, or a directory of TFRecord files",
        name="own_data",
    )
    split: str = flag(
        "0.8,0.1,0.1", "shares of training, validation and test where the data has no such split", name="own_split"
    )
    skip_bad: bool = flag(False, "leave out images that cannot be decoded", name="own_skip_bad")
    image_size: str = flag("", "height,width of an image [the network's own]", name="own_image_size")
    rescale: str = flag("1", "factor of every input, such as 1/255, before mean and std", name="own_rescale")
    mean: str = flag("", "subtracted after --own_rescale: a number, or one for each channel", name="own_mean")
    std: str = flag("", "divided by after --own_mean: a number, or one for each channel", name="own_std")
