"""Why a model chose the wrong sense: counterfactuals, patching, probes, reliance; and audits of rewards."""
