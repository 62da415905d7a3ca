"""What leaves the process in words: logs and metrics, both after redaction.

Knows nothing of Kubernetes or GitOps beyond the names of fields and metrics.
"""
