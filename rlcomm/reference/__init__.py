"""The audio model's reasoning about a row's sound, written once per row with its provenance."""
