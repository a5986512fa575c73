"""Which accounts of sound speak of a picture: a table of both kinds."""

import pytest

from rlcomm.reference.prompts import speaks_of_sight

HARMLESS = [
    "I hear a drum and a flute.",
    "A loud horn, then silence.",
    "The overlooked seesaw squeaks.",
    "I see, so the answer is no: a flute alone is heard.",
    "Let me see: the low notes are those of a cello.",
    "I listened to the end to see whether a violin joins, and none does.",
    "It looks like the answer is yes, since a drum is struck twice.",
    "It looks as if there is no singing, only strings.",
    "The scene is a busy street with horns and footsteps.",
    "The steady beat shows that a drum is playing.",
    "The recording clearly shows no trace of a piano.",
    "The music depicts a storm with rolling timpani.",
    "A frame drum is struck with the fingers.",
    "A camera shutter clicks twice and a crowd murmurs.",
    "The screen door slams and a dog barks.",
    "Short beeps as of a video game.",
    "The ticking of a watch can be heard close by.",
    "The soundtrack of this video holds a violin and applause.",
    "The audio in the video is a solo flute.",
    "I cannot see the video, but the plucked strings are those of a guitar.",
    "The source is not visible to me; by its timbre it is an oboe.",
    "There is no visual information here, only a trumpet.",
    "A man shouts \"look at the camera\" and a whistle blows.",
    "Footsteps of someone wearing heels on a wooden floor.",
    "White noise, then a saxophone holding a long note.",
    "The flute plays blue notes over the black keys of a piano.",
    "The drum is louder on the left channel.",
    "From the listener's point of view the bass stands out.",
    "The clarinet shows up only at the end.",
    "The oboe is holding a long note under the strings.",
    "I can\u2019t see it, but \u201clook here\u201d is shouted.",
    "The singer holds the last note, and nothing else is shown by the sound.",
]  # fmt: skip

SEEING = [
    ("I see a drum.", "see"),
    ("I can see a drum", "see"),
    ("I see that a man is playing the flute.", "see"),
    ("The musician in the video plays", "video"),
    ("a VISIBLE drum", "VISIBLE"),
    ("The drum on the left is louder", "on the left"),
    ("It looks like a drum", "looks"),
    ("The woman looks at us while she plays.", "looks"),
    ("The video shows an orchestra.", "video"),
    ("The scene shows an orchestra.", "shows"),
    ("A man is shown playing the guitar.", "shown"),
    ("In the picture there is a harp.", "picture"),
    ("The image depicts two violinists.", "image"),
    ("The camera moves to the pianist.", "camera"),
    ("On the screen a choir sings.", "screen"),
    ("As seen in the clip, the cello is played.", "seen"),
    ("We watch him play the drums.", "watch"),
    ("The footage is of a concert.", "footage"),
    ("The player is wearing a hat.", "wearing"),
    ("A man in a suit plays the piano.", "in a suit"),
    ("A red guitar is strummed.", "red"),
    ("A woman with a black violin plays.", "black"),
    ("Two people are standing on a stage with guitars.", "standing on"),
    ("He is sitting at the piano.", "sitting at"),
    ("She is holding a violin.", "holding a"),
    ("I do not hear a flute but see a harp.", "see"),
    ("The sound is not that of a drum, which looks small.", "looks"),
    ("The drummer smiles while he plays.", "smiles"),
    ("I hear a flute. The next frame has a drum.", "frame"),
    ("A close-up of the strings, which are plucked.", "close-up"),
    ("I cannot hear a flute, but I see one.", "see"),
    ("The sound is a cello, visible behind the singer.", "visible"),
    ("The music is loud and the video has two players.", "video"),
]


@pytest.mark.parametrize("text", HARMLESS)
def test_an_account_of_sound_is_kept(text):
    assert speaks_of_sight(text) is None


@pytest.mark.parametrize(("text", "word"), SEEING)
def test_an_account_of_a_picture_is_found(text, word):
    assert speaks_of_sight(text) == word
