"""Faults: kills, broken connections, hostile objects, secrets that must not show."""
