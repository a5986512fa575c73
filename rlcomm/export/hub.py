"""A finished model on the Hugging Face Hub: what `push_to_hub` in a recipe does, and when.

    model/ whole on disk -> evaluated -> card -> upload of model/

transformers would push the run folder at every save, checkpoints and pickles with it; here only a finished
stage's model/ leaves the machine, and an upload that fails costs nothing but itself.
"""

import logging
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HTTPError

from rlcomm.export import model_card
from rlcomm.utils.errors import UserError

logger = logging.getLogger("rlcomm")

# What a model folder may hold; a list of what is allowed lets no pickle and no stray file through.
UPLOADED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "README.md"]


def foresee(recipe: Any) -> None:
    """Warns, before the training, of an upload that will find no token after it."""
    if recipe.push_to_hub and get_token() is None:
        logger.warning(
            "push_to_hub is set, but there is no Hugging Face token yet: run `hf auth login` or set HF_TOKEN "
            "before the training ends; without it the model stays on this disk."
        )


def push(recipe: Any) -> str:
    """Uploads `model/` of a finished run; the repository is made where there is none.

    Args:
        recipe: `hub_model_id` (None: the run folder's name, of whoever is logged in), `hub_private_repo` and
            `hub_revision` (a branch, made where there is none) are transformers' keys.

    Returns:
        The repository, "owner/name".

    Raises:
        UserError: no token, or the upload failed; the model is whole on this disk.
    """
    run_dir = Path(recipe.output_dir)
    model, name = run_dir / "model", recipe.hub_model_id or run_dir.resolve().name
    again = "run the same command again, which then only uploads."
    if get_token() is None:
        raise UserError(
            f"push_to_hub is set, but there is no Hugging Face token, so {model} was not uploaded to {name}; "
            f"it is whole on this disk: run `hf auth login` or set HF_TOKEN, and {again}"
        )
    api = HfApi(library_name="rlcomm")
    try:
        repo = api.create_repo(name, private=recipe.hub_private_repo, exist_ok=True).repo_id
        if recipe.hub_revision:
            api.create_branch(repo, branch=recipe.hub_revision, exist_ok=True)
        model_card.write(run_dir, repo)
        api.upload_folder(
            repo_id=repo, folder_path=model, revision=recipe.hub_revision, allow_patterns=UPLOADED,
            commit_message=f"{recipe.stage} trained with rlcomm",
        )  # fmt: skip
    except (OSError, HTTPError, ValueError, RuntimeError) as error:  # hf_xet's are RuntimeErrors
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"{model}: could not be uploaded to {name} ({reason}); it is whole on this disk: mend that and "
            f"{again}"
        ) from error
    print(f"{model}: uploaded to https://huggingface.co/{repo}")
    return repo
