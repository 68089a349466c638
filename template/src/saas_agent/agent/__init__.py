"""Yours: what the agent says and does. An update of the template never touches what you changed in this folder."""
