"""Recipes: one dataclass a stage, read from YAML and checked in one place."""
