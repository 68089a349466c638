"""Tests of `local/` and of the deployment. They run in a rendered repository: see `tests/test_local_cloud.py`."""
