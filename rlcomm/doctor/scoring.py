"""How the completions of a recipe will be scored, and what it costs where prompts are read more than once."""

from typing import Any

from rlcomm.doctor.memory import Prompt
from rlcomm.omni.grouped import refusal
from rlcomm.omni.score import form


def chosen(recipe: Any, config: Any) -> str:
    """What `scoring` of an RL recipe comes to (`rlcomm.omni.score`) with a decoder of this configuration."""
    if recipe.scoring != "auto":
        return recipe.scoring
    return "rows" if refusal(config, recipe.attn_implementation) else form(recipe.num_generations)


def notes(recipe: Any, config: Any, prompt: Prompt) -> list[str]:
    """One sentence where `scoring: auto` cannot read a prompt once for all its completions: why, and how many
    times the tokens that is, G (P + C) / (P + G C)."""
    if recipe.stage not in ("step_rr", "grpo") or recipe.scoring != "auto":
        return []
    if (why := refusal(config, recipe.attn_implementation)) is None:
        return []
    group, before, behind = recipe.num_generations, prompt.tokens, prompt.completion
    times = group * (before + behind) / (before + group * behind)
    return [
        f"scoring is rows, since {why}: every completion is read behind a copy of its prompt, {times:.1f} "
        f"times the tokens ({group} completions of {behind:,} behind {before:,})."
    ]
