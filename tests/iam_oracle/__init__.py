"""The policy evaluator of the local cloud, compared with an independent one."""
