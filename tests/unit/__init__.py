"""Tests of pure modules, and of others in virtual time."""
