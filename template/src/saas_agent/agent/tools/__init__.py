"""Yours: the agent's tools. Every module here has `tools(doors)`, which makes them for one caller.

Put a module beside these, and the agent has its tools. `doors` (saas_agent/wiring.py) are the caller's own: a tool
needs no tenant and can't name one. A module whose tools may be out of reach also has `outages(doors)`.
"""
