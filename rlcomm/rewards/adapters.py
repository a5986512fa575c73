"""The rewards as TRL reward functions; the only file of the rewards that knows TRL's conventions.

To add a reward: write `score(steps, sample) -> float | None` in a file of its own, give it a name here.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from rlcomm.rewards import accuracy, arr, avc, consistency, format
from rlcomm.steps import Steps, parse
from rlcomm.utils.errors import UserError

if TYPE_CHECKING:
    from rlcomm.data.sample import Sample
    from rlcomm.rewards.embed import Embedder

Completion = str | Sequence[Mapping[str, Any]]
RewardFunction = Callable[..., list[float | None]]

NAMES: tuple[str, ...] = ("format", "arr", "avc", "accuracy", "consistency")
OF_TWINS: frozenset[str] = frozenset({"consistency"})
"""What reads the completions of a row's twin too, which `OmniGRPOTrainer` alone gathers."""
NEED_EMBEDDER: frozenset[str] = frozenset({"arr", "avc"})
_COLUMNS = ("answer", "options", "reference", "sight")
_COMPARED = {
    "similarity": (),
    "calibrated": ("reference",),
    "witnessed": ("reference", "sight"),
}  # by avc's mode


def reward_functions(
    weights: Mapping[str, float],
    *,
    format_mode: str = "strict",
    omega: float | None = None,
    avc_mode: str = "similarity",
    embedder: "Embedder | None" = None,
) -> list[RewardFunction]:
    """Makes the reward functions for TRL's `GRPOTrainer(reward_funcs=...)`.

    Each has the name of its reward as `__name__` and is called as `(prompts, completions, sample=[...],
    **columns)` with one `Sample` for each completion; it returns one float, or None (not applicable), for
    each. `consistency` reads the column `twin` too: for each completion the twin's Sample and completions, or
    None. Each batch is parsed once and its texts embedded in one model call, whichever function asks first.
    `function.begin(completions, samples)` has another thread do so for all of them, while the caller does
    what needs no reward; whoever asks first waits for it.

    Args:
        weights: the rewards wanted, by name (NAMES), with their weights. Weight 0 computes and logs a reward
            without training on it. Give TRL `reward_weights=[weights[f.__name__] for f in functions]`.
        format_mode: "strict" or "lenient".
        omega: threshold of ARR and of witnessed AVC in [-1, 1]; needed with them.
        avc_mode: "similarity" (the paper), "calibrated" or "witnessed".
        embedder: needed with "arr" and "avc".

    Returns:
        The functions in the order of NAMES.

    Raises:
        UserError: a value out of its range, or one that is missing.
    """
    if unknown := sorted(set(weights) - set(NAMES)):
        raise UserError(
            f"Reward weights name {', '.join(unknown)}, which is no reward; choose from {', '.join(NAMES)}."
        )
    if not any(weights.values()):
        raise UserError("All reward weights are 0, so nothing could be learned; give at least one a weight.")
    if format_mode not in ("strict", "lenient"):
        raise UserError(f"The format reward has no mode {format_mode!r}; choose strict or lenient.")
    if avc_mode not in avc.MODES:
        raise UserError(f"The AVC reward has no mode {avc_mode!r}; choose one of {', '.join(avc.MODES)}.")
    compares = "arr" in weights or ("avc" in weights and avc_mode == "witnessed")
    if compares and (omega is None or not -1 <= omega <= 1):
        raise UserError(f"omega is {omega}, but rewards compare it with a cosine; set it within [-1, 1].")
    if embedder is None and NEED_EMBEDDER & set(weights):
        raise UserError(
            "The rewards arr and avc compare sentence embeddings, but there is no embedder; name one."
        )

    calibrated, witnessed = avc_mode in avc.NEED_REFERENCE, avc_mode == "witnessed"
    read = _Reader(embedder, "arr" in weights, "avc" in weights, calibrated, witnessed)
    scores: dict[str, Callable[[Steps, Sample], float | None]] = {
        "format": lambda steps, sample: format.score(steps, sample, lenient=format_mode == "lenient"),
        "arr": lambda steps, sample: arr.score(steps, sample, embedder, omega),  # type: ignore[arg-type]
        "avc": lambda steps, sample: avc.score(steps, sample, embedder, avc_mode, omega),  # type: ignore[arg-type]
        "accuracy": accuracy.score,
    }
    asked = [name for name in NAMES if name in weights]
    return [_adapt(name, scores[name], read) if name in scores else _of_twins(name) for name in asked]


def trl_rewards(
    *names: str,
    embedder: "Embedder | str" = "minilm",
    omega: float | None = None,
    avc_mode: str = "similarity",
    format_mode: str = "strict",
) -> list[RewardFunction]:
    """The rewards for a plain TRL `GRPOTrainer(reward_funcs=...)`, whose rows are columns of a data set.

    Columns: `answer`, the gold answer; `reference`, what the audio alone says (arr, and avc's calibrated and
    witnessed form); `sight`, what the picture alone says (witnessed); `options`, a list of choices, where the
    question has some. A row whose `reference` or `sight` is None gets None (not applicable). Completions may
    be texts or chat messages.

    Args:
        names: of NAMES but "consistency", each once; none: all of them. GRPOConfig's `reward_weights` go by
            the functions' order, which is that of NAMES: `[function.__name__ for function in functions]`.
        embedder: for arr and avc: an `Embedder`, or the name of its model.
        omega: threshold of arr and of witnessed avc in [-1, 1]; None: 0.984 for "minilm" (and short
            sentences), else the paper's 0.8, which belongs to "Qwen/Qwen3-Embedding-0.6B".
        avc_mode: "similarity" (the paper), "calibrated" or "witnessed".
        format_mode: "strict" or "lenient".

    Returns:
        One function for each reward.

    Raises:
        UserError: an unknown reward, a value out of range; from the functions: a column is not there.
    """
    from rlcomm.rewards.embed import Embedder
    from rlcomm.rewards.omega import default_omega

    names = names or tuple(name for name in NAMES if name not in OF_TWINS)
    if twins := sorted(OF_TWINS & set(names)):
        raise UserError(
            f"The reward {twins[0]} compares a row with the completions of its twin, which a plain trainer "
            "does not gather; leave it out, or train with a step_rr recipe and counterfactual_share."
        )
    model: Embedder | None = None
    if NEED_EMBEDDER & set(names):
        model = Embedder(embedder) if isinstance(embedder, str) else embedder
        omega = default_omega(model.model_name) if omega is None else omega
    functions = reward_functions(
        dict.fromkeys(names, 1.0), format_mode=format_mode, omega=omega, avc_mode=avc_mode, embedder=model
    )
    needed = {
        "format": (),
        "accuracy": ("answer",),
        "arr": ("answer", "reference"),
        "avc": ("answer", *_COMPARED[avc_mode]),
    }
    return [_of_columns(function, needed[function.__name__]) for function in functions]


def _of_columns(reward: RewardFunction, needed: Sequence[str]) -> RewardFunction:
    """A reward of Samples as one of the columns of a data set."""
    name = reward.__name__

    def with_columns(
        prompts: Sequence[Any], completions: Sequence[Completion], **columns: Any
    ) -> list[float | None]:
        if missing := [column for column in needed if columns.get(column) is None]:
            raise UserError(
                f"the reward {name!r} reads the column {missing[0]!r}, which the data set does not have; add "
                f"it, or leave this reward out. There are: {', '.join(sorted(columns))}."
            )
        rows = [
            _sample({column: columns[column][i] for column in _COLUMNS if columns.get(column) is not None})
            for i in range(len(completions))
        ]
        return reward(prompts=prompts, completions=completions, sample=rows)

    with_columns.__name__ = with_columns.__qualname__ = name
    return with_columns


def _sample(row: Mapping[str, Any]) -> "Sample":
    from rlcomm.data.sample import Sample, Turn

    turn = Turn("", str(row.get("answer") or ""), options=tuple(row.get("options") or ()))
    return Sample("", (turn,), reference=row.get("reference"), sight=row.get("sight"))


def completion_text(completion: Completion) -> str:
    """The text of a completion as TRL hands it over: a string, or a list of chat messages."""
    if isinstance(completion, str):
        return completion
    parts: list[str] = []
    for message in completion:
        content = message.get("content") or ""
        parts.extend([content] if isinstance(content, str) else [part.get("text") or "" for part in content])
    return "".join(parts)


def _adapt(name: str, score: "Callable[[Steps, Sample], float | None]", read: "_Reader") -> RewardFunction:
    def reward(
        prompts: Sequence[Any],
        completions: Sequence[Completion],
        sample: "Sequence[Sample] | None" = None,
        **columns: Any,
    ) -> list[float | None]:
        if sample is None or len(sample) != len(completions):
            raise ValueError(
                f"the reward {name!r} needs a `sample` column with one Sample for each of the "
                f"{len(completions)} completions"
            )
        return [score(steps, row) for steps, row in zip(read(completions, sample), sample, strict=True)]

    reward.__name__ = reward.__qualname__ = name
    reward.begin = read.begin  # type: ignore[attr-defined]
    return reward


def _of_twins(name: str) -> RewardFunction:
    def reward(
        prompts: Sequence[Any],
        completions: Sequence[Completion],
        sample: "Sequence[Sample]" = (),
        twin: "Sequence[tuple[Sample, Sequence[Completion]] | None] | None" = None,
        **columns: Any,
    ) -> list[float | None]:
        known: dict[str, Steps] = {}

        def steps(completion: Completion) -> Steps:
            text = completion_text(completion)
            if text not in known:
                known[text] = parse(text)
            return known[text]

        earned: list[float | None] = [None] * len(completions)  # not applicable to a row without its twin
        for i, other in enumerate(twin or ()):
            if other is not None:
                row, texts = other
                earned[i] = consistency.score(
                    steps(completions[i]), sample[i], [steps(text) for text in texts], row
                )
        return earned

    reward.__name__ = reward.__qualname__ = name
    return reward


class _Reader:
    """Parses a batch once and embeds all its texts in one call; remembers the last batch."""

    def __init__(
        self, embedder: "Embedder | None", with_arr: bool, with_avc: bool, calibrated: bool, witnessed: bool
    ) -> None:
        self.embedder, self.calibrated, self.witnessed = embedder, calibrated, witnessed
        self.with_arr, self.with_avc = with_arr, with_avc
        self.texts: list[str] | None = None
        self.steps: list[Steps] = []
        self.parsed = 0  # completions parsed so far
        self._begun: Future | None = None

    def begin(self, completions: Sequence[Completion], samples: "Sequence[Sample]") -> None:
        """Has a thread read the batch that will be asked for; without an embedder that is not worth one."""
        if self.embedder is not None:
            self._wait()
            with_one = ThreadPoolExecutor(1)
            self._begun = with_one.submit(self._read, completions, samples)
            with_one.shutdown(wait=False)  # the thread ends with its work: a process that forks has no other

    def __call__(self, completions: Sequence[Completion], samples: "Sequence[Sample]") -> list[Steps]:
        self._wait()
        return self._read(completions, samples)

    def _wait(self) -> None:
        """For the thread; what it raised is raised here."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.result()

    def _read(self, completions: Sequence[Completion], samples: "Sequence[Sample]") -> list[Steps]:
        texts = [completion_text(completion) for completion in completions]
        if texts != self.texts:
            distinct = {text: parse(text) for text in dict.fromkeys(texts)}
            self.parsed += len(distinct)
            self.texts, self.steps = texts, [distinct[text] for text in texts]
        if self.embedder is not None:  # a hit costs nothing, and the same texts may come with other samples
            self.embedder.prefetch(self._pairs(samples))
        return self.steps

    def _pairs(self, samples: "Sequence[Sample]") -> list[tuple[str, str | None]]:
        """What ARR and AVC are about to compare; a text that no reward will read is not embedded."""
        pairs: list[tuple[str, str | None]] = []
        for steps, sample in zip(self.steps, samples, strict=True):
            if not (steps.audio.found and steps.answer.found):
                continue
            if self.with_arr and sample.reference and accuracy.score(steps, sample):
                pairs += [(steps.audio.text, None), (sample.reference, arr.INSTRUCTION)]
            if self.with_avc and steps.video.found:
                pairs += [(steps.audio.text, None), (steps.video.text, avc.INSTRUCTION)]
                if self.calibrated and sample.reference:
                    pairs.append((sample.reference, None))
                if self.witnessed and sample.sight:
                    pairs += [(steps.video.text, None), (sample.sight, avc.INSTRUCTION)]
        return pairs
