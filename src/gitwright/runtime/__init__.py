"""What makes reconcilers run: work queue, controllers, leadership, manager, endpoints.

Knows no kind and no domain: a reconciler is whatever answers `Reconciler`.
"""
