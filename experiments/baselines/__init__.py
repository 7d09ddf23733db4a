"""The data of the paper's baselines: OctoPack, Evol-Instruct, OSS-Instruct, direct distillation."""
