"""What a training step and GACL cost, measured."""
