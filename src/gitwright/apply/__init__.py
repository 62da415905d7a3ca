"""From rendered objects to a changed cluster: normalise, plan, apply, prune, wait.

Role in the flow: takes the frozen manifests that a render gave, makes one ChangeSet of
them, the live objects and the inventory, and applies exactly that ChangeSet. Knows no
sources, no conditions and no events.
"""
