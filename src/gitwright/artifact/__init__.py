"""Artifacts: immutable trees by digest, their archives, retention and serving."""
