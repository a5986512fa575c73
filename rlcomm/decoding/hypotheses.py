"""Candidates for a question without options: what the branches themselves answer."""

from rlcomm.rewards.accuracy import normalise


def hypothesis_set(joint_answer: str | None, evidence_answer: str | None) -> tuple[str, ...]:
    """The answers between which a rule decides on a free-form question.

    Both branches generate; their answers become the candidates, which are then scored under both branches
    and arbitrated by the same rule as given options. Answers that are one after normalisation are one
    candidate, in the words that came first.

    Args:
        joint_answer: what J generated.
        evidence_answer: what A generated; None: the item has no such branch.

    Returns:
        The distinct answers, J's first: two; one where the branches agree or only one of them says anything,
        and nothing is left to arbitrate; none where neither does.

    Source: Beyond Text Following (GACL, arXiv 2606.05161), free-form questions.
    """
    found: dict[str, str] = {}
    for answer in (joint_answer, evidence_answer):
        if answer and (key := normalise(answer)):
            found.setdefault(key, answer)
    return tuple(found.values())
