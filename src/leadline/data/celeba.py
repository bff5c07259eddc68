"""CelebA: aligned faces with 40 yes/no attributes, from Parquet files or from the Hugging Face hub."""

import os
from pathlib import Path

from leadline.data.source import DATASETS, Source
from leadline.data.tables import huggingface, parquet
from leadline.errors import LeadlineError
from leadline.recipe import DataSpec

FOLDER = "celeba10k"
"""What $LEADLINE_DATA calls it."""
HUB_NAME = "flwrlabs/celeba"
"""202,599 images in the splits train, valid and test, the attributes as booleans."""


@DATASETS.register("celeba")
def celeba(spec: DataSpec) -> Source:
    """The table with the attributes as columns; groups: one (Male) or a product of them (Blond_Hair*Male).

    Looked for in data.path (a .parquet file or a folder of them), else in $LEADLINE_DATA/celeba10k; with
    data.download, the hub's copy serves where that is not there. Only the hub's has splits. The record of a run
    names which one it was: their images and sizes differ.
    """
    shared = os.environ.get("LEADLINE_DATA")
    own = Path(shared) / FOLDER if shared else None
    if spec.path is not None:
        return parquet(spec)
    if own is not None and own.is_dir():
        return parquet(spec.model_copy(update={"path": str(own)}))
    if spec.download:
        return huggingface(spec.model_copy(update={"path": HUB_NAME}))
    raise LeadlineError(
        f"celeba: {f'there is no folder {own}' if own else 'LEADLINE_DATA is not set'}: name a .parquet file or a "
        "folder of them with --set data.path=…, set the environment variable LEADLINE_DATA to a folder that has them "
        f"in {FOLDER}/, or fetch {HUB_NAME} from the Hugging Face hub with --set data.download=true"
    )
