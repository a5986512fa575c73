"""The trained model on disk, whole or absent."""

import os
import shutil
from pathlib import Path
from typing import Any

from rlcomm.utils import files
from rlcomm.utils.errors import UserError


def save_model(trainer: Any, processor: Any, path: Path) -> None:
    """Writes weights (safetensors) and processor beside `path` and renames them into place."""
    beside = path.with_name(f".{path.name}.unfinished")
    try:
        trainer.save_model(str(beside))
        if trainer.args.should_save:
            # a pickle; recipe.yaml says the same readably
            (beside / "training_args.bin").unlink(missing_ok=True)
            with files.replacing(path, directory=True) as temporary:
                processor.save_pretrained(str(beside))
                temporary.rmdir()
                os.replace(beside, temporary)
    except Exception as error:
        if (reason := files.write_failure(error)) is None:
            raise
        raise UserError(
            f"{path}: the model could not be written ({reason}); free space and run the same command again, "
            "it goes on from the last checkpoint."
        ) from error
    finally:
        if trainer.args.should_save:
            shutil.rmtree(beside, ignore_errors=True)
