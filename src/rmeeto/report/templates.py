"""Pages from the templates of the package."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: Any) -> str:
    """The page that a template gives with these values. All text is escaped, save what the template marks as safe."""
    pages = PackageLoader("rmeeto", "templates")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, loader=pages)
    return environment.get_template(template).render(**values)
