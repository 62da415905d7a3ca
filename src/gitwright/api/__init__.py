"""The kinds gitwright runs, as types: one module per API group.

Role in the flow: everything that reads or writes a GitRepository or a Kustomization
does so through these types; the CRDs, the manifests of an installation and the
reference pages are made from them. Pure: nothing here knows a cluster, a file or a clock.
"""
