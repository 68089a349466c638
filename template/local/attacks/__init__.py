"""Attacks on tenant isolation, run as a tenant with its own valid token and credentials, and as an outsider.

Each module of this package holds the attacks on one thing; a repository has the modules of what it uses. The same
attacks run against the local cloud, where they are judged from the recorded decisions, and against AWS.
"""
