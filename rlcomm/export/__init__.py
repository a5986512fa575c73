"""From a trained thinker to what others load: full model, thinker, adapter, card, hub."""
