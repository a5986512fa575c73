"""The ground everything stands on: files, processes, errors, the journal; imports nothing of rlcomm."""
