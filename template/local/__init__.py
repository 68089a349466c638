"""The whole cloud on one machine: what ships, run against a local AWS. Never deployed."""
