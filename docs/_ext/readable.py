"""What the theme leaves out for readers who hear a page."""


def setup(app):
    """Come after the theme, which writes the tree at the side."""
    app.connect("html-page-context", level_captions, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def level_captions(app, page, template, context, doctree) -> None:
    """Say of what level the captions of a toctree are."""
    for part in ("body", "furo_navigation_tree"):
        if isinstance(context.get(part), str):
            context[part] = context[part].replace('role="heading">', 'role="heading" aria-level="2">')
