"""Source trees of small projects, and the real tools that build wheels and sdists from them."""

from dataclasses import dataclass
from pathlib import Path

from support.clients.computer import Computer


@dataclass(frozen=True)
class Builder:
    """A build backend: its name in pyproject.toml, and the command that builds a wheel and an sdist into dist/."""

    requires: str
    backend: str
    command: tuple[str, ...]


BUILDERS = {
    "flit": Builder("flit_core", "flit_core.buildapi", ("flit", "build")),
    "hatchling": Builder("hatchling", "hatchling.build", ("hatchling", "build")),
    "setuptools": Builder("setuptools", "setuptools.build_meta", ("pyproject-build", "--no-isolation")),
    "poetry": Builder("poetry-core", "poetry.core.masonry.api", ("poetry", "build")),
}


@dataclass(frozen=True)
class SourceTree:
    """A project's folder."""

    folder: Path
    name: str
    builder: Builder

    @property
    def module(self) -> str:
        return self.name.replace("-", "_").lower()

    def build(self, computer: Computer) -> list[Path]:
        """Build the wheel and the sdist; returns them in this order."""
        computer.run(*self.builder.command, cwd=self.folder)
        dist = self.folder / "dist"
        files = [*dist.glob("*.whl"), *dist.glob("*.tar.gz")]
        assert len(files) == 2, f"not one wheel and one sdist: {sorted(p.name for p in dist.iterdir())}"
        return files


def source_tree(folder: Path, name: str, builder: str, version: str = "1.0") -> SourceTree:
    """Write a project whose module defines VALUE, the builder's name."""
    tree = SourceTree(folder, name, BUILDERS[builder])
    package = folder / tree.module
    package.mkdir(parents=True)
    (folder / "README.md").write_text(f"# {name}\n\nGrüße, 你好.\n")
    (package / "__init__.py").write_text(f'"""A project made for a test."""\n\nVALUE = "{builder}"\n')
    (folder / "pyproject.toml").write_text(
        f"""
[build-system]
requires = ["{tree.builder.requires}"]
build-backend = "{tree.builder.backend}"

[project]
name = "{name}"
version = "{version}"
description = "Made for a test"
readme = "README.md"
requires-python = ">=3.9"
keywords = ["one", "two"]
authors = [{{ name = "Änne Example", email = "aenne@example.org" }}]

[project.urls]
Home = "https://example.org/{name}"

[tool.flit.module]
name = "{tree.module}"
"""
    )
    return tree
