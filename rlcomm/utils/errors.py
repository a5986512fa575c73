"""The one exception for mistakes a user can mend."""


class UserError(Exception):
    """A mistake in what the user gave us: one clear sentence, exit code 2, no traceback.

    The message has three parts: what was set (file, row, field, value), why it cannot work, what to do.
    """
