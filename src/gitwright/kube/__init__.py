"""The cluster as we see it: client, discovery, informers, field ownership.

Role in the flow: the only room that speaks to a Kubernetes API server, the
sandbox's and real ones alike.

    config ──> credentials ──> http ──> client ──> informer ──> cluster
                                          └─ mapper (discovery)

`fields` is pure and knows none of the others. Objects go in and out as plain
dictionaries, as the API has them. The room must not know what GitOps is: no kind
of Flux's, no owner label, no reconciler.
"""
