"""What decoders are compared on, and how: the settings of an evaluation under conflict."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from rlcomm.data import controls
from rlcomm.data.media import MediaSettings
from rlcomm.decoding import decoders, gacl
from rlcomm.utils.errors import UserError

GACL_MODES = ("candidates", "hypotheses", "tokens")
ARBITRATIONS = ("auto", *controls.PARTS)


@dataclass(frozen=True)
class Plan:
    """What is compared, and how.

    Attributes:
        decoders: of `decoding.decoders.READS`; greedy is always there, everything is measured against it.
        prompt_style: "direct" scores the labels right behind the question; "steps" lets every branch write
            its own reasoning first and scores them inside its <answer>.
        gacl_mode: "candidates": an item's labels, and hypotheses where it has none; "hypotheses": the joint
            and the evidence branch's own answers are the candidates of every item; "tokens": next-token
            scores are mixed while generating, under the default settings.
        arbitrate: what the evidence branch leaves out: "text", "video" or "audio"; "auto": the text beside
            the question where an item has one, else the picture.
        settings: keywords of `gacl.Settings` that hold for GACL throughout; `lam` and `tau` are its default
            where nothing is tuned.
        normalise: a label's score is the mean over its tokens (True) or their sum.
        dev_share: share of the clips, in [0, 1), on which settings are chosen; 0: none are, all decoders run
            under their published defaults on every item.
        budget_points: the faithful drop that a chosen setting may have on dev, in points.
        max_new_tokens: bound of a generated answer.
        batch_size: items a forward.
        media: how clips are decoded.
        conditions: of `data.controls`: greedy decoding is asked under each of them too, so that every score
            has its blind control beside it.
    """

    decoders: tuple[str, ...] = ("greedy",)
    prompt_style: str = "direct"
    gacl_mode: str = "candidates"
    arbitrate: str = "auto"
    settings: dict[str, Any] = field(default_factory=dict)
    normalise: bool = True
    dev_share: float = 0.0
    budget_points: float = 5.0
    max_new_tokens: int = 96
    batch_size: int = 16
    media: MediaSettings = field(default_factory=MediaSettings)
    conditions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        controls.check(self.conditions)
        object.__setattr__(self, "decoders", tuple(dict.fromkeys(("greedy", *self.decoders))))
        decoders.branches(self.decoders)
        gacl.Settings(**self.settings)
        for name, choices in (
            ("prompt_style", ("direct", "steps")),
            ("gacl_mode", GACL_MODES),
            ("arbitrate", ARBITRATIONS),
        ):
            if getattr(self, name) not in choices:
                raise UserError(
                    f"{name} is {getattr(self, name)!r}, which is unknown; use one of {', '.join(choices)}."
                )
        if not 0 <= self.dev_share < 1:
            raise UserError(
                f"dev_share is {self.dev_share}, outside [0, 1): the rest is what results are reported on; "
                "set a share such as 0.3, or 0 to tune nothing."
            )
        if self.settings.get("score_norm") in ("center", "zscore") and self.dev_share == 0:
            raise UserError(
                f"score_norm is {self.settings['score_norm']!r}, whose statistics come from a dev split, and "
                "dev_share is 0; set dev_share, or score_norm log_softmax."
            )

    def scored(self) -> dict[str, Any]:
        """What the scores of an item depend on, as JSON values; the rest is a matter of counting them."""
        counted = {"dev_share", "budget_points"} | ({"settings"} if self.gacl_mode != "tokens" else set())
        made = json.loads(json.dumps(dataclasses.asdict(self)))
        return {name: value for name, value in made.items() if name not in counted}
