import pytest

from rlcomm.data.vocabulary import listed


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], ""),
        (["drum"], "a drum"),
        (["oboe", "drum"], "an oboe and a drum"),
        (["drum", "oboe", "harp"], "a drum, an oboe and a harp"),
    ],
)
def test_names_are_listed_as_a_sentence_lists_them(names, said):
    assert listed(names) == said
