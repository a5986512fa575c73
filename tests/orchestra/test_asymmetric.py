import json

import pytest

from rlcomm.config.pipeline import PipelineRecipe
from rlcomm.orchestra.asymmetric import facts, share
from rlcomm.utils.errors import UserError


def test_the_recipe_says_how_many_training_scenes_are_asymmetric_and_the_data_are_held_to_it(tmp_path):
    clips = [("a", None), ("a", None), ("b", "flute"), ("c", None), ("d", None)]  # two rows about one clip
    rows = [{"video": f"{clip}.mp4", "meta": {"muted": muted}} for clip, muted in clips]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert share(tmp_path) == 0.25
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write("\n{broken\n")  # for the stage to report, by row
    assert share(tmp_path) == 0.25
    known = {"stages": ["warmup.yaml"], "data": str(tmp_path)}
    assert facts(PipelineRecipe(**known, asymmetric=0.25)) == {"asymmetric": 0.25}
    assert facts(PipelineRecipe(**known)) == {"asymmetric": 0.25}
    with pytest.raises(UserError, match=r"asymmetric is 0\.5, but .* in 25% .* set asymmetric to 0\.25"):
        facts(PipelineRecipe(**known, asymmetric=0.5))
    (tmp_path / "train.jsonl").write_text('{"video": "a.mp4", "meta": {"source": "avqa"}}\n')
    assert share(tmp_path) is None  # somebody's own clips do not say
    assert facts(PipelineRecipe(**known, asymmetric=0.5)) == {}
    with pytest.raises(UserError, match=r"asymmetric is 1\.5, .* between 0 and 1"):
        PipelineRecipe(**known, asymmetric=1.5)
