"""A real Kubernetes control plane for tests, and what tests need to work with it."""
