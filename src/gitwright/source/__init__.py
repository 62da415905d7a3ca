"""Sources: one module per kind of source, from its spec to an artifact."""
