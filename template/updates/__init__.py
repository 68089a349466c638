"""Following the template: what an update does to this repository, and what the team has agreed to."""
