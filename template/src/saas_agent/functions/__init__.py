"""Lambda entry points: `create` is told its environment, `handler` is what Lambda calls."""
