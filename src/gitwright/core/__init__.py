"""The pure core: identities, conditions, errors and durations.

Standard library only. Nothing here waits, reads a file, opens a socket or asks
for the time; whatever changes from call to call enters by argument.
"""
