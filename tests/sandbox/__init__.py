"""Tests over real sockets and real local servers."""
