"""The only place where domain meets runtime: one reconciler per kind, and `conclude`."""
