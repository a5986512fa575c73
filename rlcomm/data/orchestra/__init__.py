"""Orchestra, the embedded world: eight instruments, seen and heard, small enough to train on in minutes."""

from rlcomm.data.orchestra.build import asymmetric_share, build
from rlcomm.data.orchestra.instruments import INSTRUMENTS
from rlcomm.data.orchestra.questions import hear_text, see_text
from rlcomm.data.orchestra.sounds import SOUNDS

__all__ = ["INSTRUMENTS", "SOUNDS", "asymmetric_share", "build", "hear_text", "see_text"]
