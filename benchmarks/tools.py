"""Other generators, each in an environment of its own under `.cache/venvs`, made when it is first asked for."""

import shutil
import subprocess
import sys
from pathlib import Path

from .measure import ROOT


def tool(name: str, version: str) -> Path:
    """The tool's command, of that version."""
    folder = ROOT / ".cache" / "venvs" / f"{name}-{version}"
    command = folder / "bin" / name
    if not command.exists():
        uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
        print(f"Installing {name} {version} into {folder.relative_to(ROOT)}", file=sys.stderr)
        python = folder / "bin" / "python"
        for arguments in (
            ["venv", "--quiet", "--allow-existing", "--python", sys.executable, folder],
            ["pip", "install", "--quiet", "--python", python, f"{name}=={version}"],
        ):
            subprocess.run([uv, *map(str, arguments)], check=True)
    return command
