"""Tests of gitwright."""
