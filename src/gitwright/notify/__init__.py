"""Notices: what is told to people and programs outside, beginning with Kubernetes Events."""
