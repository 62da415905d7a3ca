"""Our own kustomize: from a tree of files and a folder in it to objects.

Role in the flow: what the kustomize binary would print, computed in this process from nothing
but the tree it is given. `build.build` is the way in. Source: kustomize 5.8 (api 0.21), which
the tests compare with; spec/dependencies.md section 1.
"""
