"""The npm packages that tests/support/github/emulate pins."""

from pathlib import Path

from support.npm_packages import installed


def emulate_command() -> list[str]:
    """Return the program and its first argument. Skips the calling test if it cannot be installed."""
    modules = installed(Path(__file__).with_name("emulate"))
    return [str(modules / "node" / "bin" / "node"), str(modules / "emulate" / "dist" / "index.js")]
