"""LightningModules: where a model meets an objective."""
