"""Formats: reading and writing of text that others define; pure."""
