"""Is an object healthy? From what the cluster shows of it, by Flux's rules.

Role in the flow: waits, readiness and the console ask here about each object they see.
The answer depends on the object alone, and on the expressions its owner gave; nothing
here fetches, remembers or waits, and time enters as an argument.

Source: spec/flux-v2.md section 3.3 (Health); kstatus of fluxcd/cli-utils; fluxcd/pkg
runtime/statusreaders and runtime/cel (behaviour; the words are ours).
"""

from gitwright.health.expressions import Expressions
from gitwright.health.model import Health, Status
from gitwright.health.rules import assess

__all__ = ["Expressions", "Health", "Status", "assess"]
