"""gitwright: a GitOps engine for Kubernetes in one process."""

__version__ = "0.1.0.dev0"
