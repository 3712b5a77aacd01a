"""The shipped plugins, laid out like a project's own ``plugins`` folder."""
