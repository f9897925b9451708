"""Files and names: checkpoints, the shipped and the published models, the recipes."""
