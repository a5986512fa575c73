"""`rlcomm audit RECIPE`: a recipe's rewards against degenerate policies, and the rows to train one of them.

recipe -> its rows, rewards and embedder -> `rlcomm.diagnostics.audit` -> table, <output_dir>/audit.json
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from rlcomm.data.sample import read_jsonl, write_jsonl
from rlcomm.diagnostics import audit, degenerate
from rlcomm.stages import step_rr
from rlcomm.stages.needs import usable
from rlcomm.utils import files
from rlcomm.utils.errors import UserError

STAGES = ("step_rr", "grpo", "ans_co")


def check_stage(path: str, recipe: Any) -> None:
    """Refuses a recipe without rewards.

    Raises:
        UserError: it is one.
    """
    if recipe.stage not in STAGES:
        raise UserError(
            f"{path}: is a recipe of stage {recipe.stage}, which has no rewards to audit; give one of "
            f"{', '.join(STAGES)}."
        )


def run_audit(recipe: Any) -> str:
    """Audits the rewards of a recipe on its own rows, and keeps what it finds in `<output_dir>/audit.json`.

    Returns:
        The table, the findings and the file's path.

    Raises:
        UserError: rows that the rewards cannot compare with, or that tell nothing honest; no embedder.
    """
    samples, _ = usable(recipe, read_jsonl(recipe.dataset)[: recipe.max_rows])
    weights = step_rr.reward_weights(recipe)
    functions = step_rr.reward_functions(recipe, weights)
    found = audit.audit(
        samples, functions, step_rr.decided_by(recipe, weights, samples), not recipe.disable_tqdm
    )
    path = Path(recipe.output_dir) / audit.FILE
    files.write_json(path, found)
    return f"{audit.format_table(found)}\n{path}"


def write_policy(recipe: Any, name: str, file: str, share: float) -> str:
    """Writes the recipe's rows with a policy's completions as targets: SFT on them starts from the exploit.

    Args:
        recipe: whose rows.
        name: of a degenerate policy, or "honest".
        file: JSON Lines to write.
        share: of the rows in [0, 1], drawn by the rows' ids, that carry the policy; the others are honest.

    Returns:
        A sentence that counts the rows.

    Raises:
        UserError: no such policy, a share out of range, no row that tells what is heard and seen.
    """
    if name != "honest" and name not in degenerate.POLICIES:
        raise UserError(
            f"--write_policy is {name!r}, which is no degenerate policy; choose honest or one of "
            f"{', '.join(degenerate.POLICIES)}."
        )
    if not 0 <= share <= 1:
        raise UserError(f"--policy_share is {share:g}, which is no share; give a number from 0 to 1.")
    rows = degenerate.stories(read_jsonl(recipe.dataset)[: recipe.max_rows])
    if not rows:
        raise UserError(
            f"{recipe.dataset}: no row tells both what is heard and what is seen, so there is nothing to "
            "imitate; run `rlcomm reference RECIPE --sight true` on the rows first."
        )
    written, exploits = [], 0
    for row, other in zip(rows, degenerate.others(rows), strict=True):
        drawn = name != "honest" and _draw(row.sample.id) < share
        exploits += drawn
        text = degenerate.POLICIES[name](row, row.sample.answer, other) if drawn else degenerate.honest(row)
        turns = (dataclasses.replace(row.sample.turns[0], target=text), *row.sample.turns[1:])
        written.append(dataclasses.replace(row.sample, turns=turns))
    write_jsonl(file, written)
    return f"{file}: {len(written)} rows, {exploits} of them {name}, the others honest"


def _draw(id: str) -> float:
    """A number in [0, 1) that belongs to an id."""
    return int(hashlib.blake2b(id.encode(), digest_size=4).hexdigest(), 16) / 2**32
