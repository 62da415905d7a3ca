"""Transport: how content reaches us over a network.

Knows protocols, credentials and addresses; knows nothing of Kubernetes objects.
"""
