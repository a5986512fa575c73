"""Where the recipes, launch configurations and models are that rlcomm ships."""

import re
from pathlib import Path

from rlcomm.utils.errors import UserError

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped(name: str) -> Path:
    """Finds a file or folder that rlcomm ships.

    Args:
        name: its path in the repository: `recipes/...` or `launch/...`.

    Returns:
        Its path in the clone or, in an installed wheel, in the package (setup.py puts it there).

    Raises:
        UserError: nothing of that name is shipped.
    """
    for root in (_PACKAGE, _PACKAGE.parent):
        if (root / name).exists():
            return root / name
    raise UserError(
        f"{name}: is not among the files that rlcomm ships; `rlcomm recipes list` names the recipes."
    )


def shipped_model(name: str) -> Path | None:
    """The folder of a model that rlcomm ships (`nano_omni`, `nano_audio`); None: of that name it has none."""
    folder = _PACKAGE / "assets" / name
    return folder if re.fullmatch(r"\w+", name) and (folder / "config.json").exists() else None


def given_or_shipped(path: str) -> str:
    """The path itself where it exists, else the shipped file of that name, if there is one.

    So `rlcomm train recipes/orchestra/warmup.yaml` means the same inside a clone and outside.
    """
    if Path(path).exists() or not path.startswith(("recipes/", "launch/")):
        return path
    try:
        return str(shipped(path))
    except UserError:
        return path
