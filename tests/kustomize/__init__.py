"""Our kustomize against the real one: the same trees through both."""
