"""Servers that tests start on loopback: real software, real sockets."""
