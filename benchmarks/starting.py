"""How long a runtime's code takes to import, beside the two SDKs that it can't do without."""

import sys
from pathlib import Path

from .measure import Command, Row, environment, medians, ratio


def measure(rendered: Path) -> list[Row]:
    """`rendered`: the default variant."""
    environ = environment(PYTHONPATH="src")
    seconds = medians(
        {
            "ours": Command([sys.executable, "-c", "import saas_agent.main"], rendered, environ),
            "sdks": Command([sys.executable, "-c", "import strands, bedrock_agentcore"], rendered, environ),
        }
    )
    what = "import of saas_agent.main / of strands and bedrock_agentcore"
    return [ratio(what, seconds, "ours", "sdks", 1.15)]
