"""Orchestra, the embedded world: eight instruments, seen and heard, small enough to train on in minutes."""

from rlcomm.orchestra.build import asymmetric_share, build
from rlcomm.orchestra.instruments import INSTRUMENTS
from rlcomm.orchestra.questions import hear_text, see_text
from rlcomm.orchestra.sounds import SOUNDS

__all__ = ["INSTRUMENTS", "SOUNDS", "asymmetric_share", "build", "hear_text", "see_text"]
