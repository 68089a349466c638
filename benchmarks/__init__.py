"""Measurements, each as a ratio to something that was measured beside it in the same run."""
