"""What may go wrong at the command line, and the exit code of each.

Role in the flow: every verb raises; `main` asks here for the code. Knows nothing
of how anything is printed.

Exit codes (spec/style.md, section 3): 0 yes; 1 no; 2 usage; 3 the operation
failed; 4 denied; 5 timeout; 130 interrupted.
"""

from __future__ import annotations

from typing import Final

from gitwright.core.errors import Denied, GitwrightError
from gitwright.kube.errors import NoKindMatch, Unreachable

YES: Final = 0
NO: Final = 1
USAGE: Final = 2
FAILED: Final = 3
DENIED: Final = 4
TIMEOUT: Final = 5
INTERRUPTED: Final = 130


class Negative(GitwrightError):
    """The question was answered, and the answer is no: not ready, not passed."""

    reason = "NotReady"


class Misuse(GitwrightError):
    """The command line asks for something that does not exist or does not go together."""

    reason = "Usage"


class TimedOut(GitwrightError):
    """What was waited for did not happen within `--timeout`."""

    reason = "Timeout"


def exit_code(error: BaseException) -> int:
    """Give the exit code that stands for an error."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, Negative):
        return NO
    if isinstance(error, Misuse):
        return USAGE
    if isinstance(error, TimedOut):
        return TIMEOUT
    if isinstance(error, Denied):
        return DENIED
    return FAILED


def advise(error: GitwrightError) -> None:
    """Give an error without a hint the one that its kind suggests at the command line."""
    if error.hint:
        return
    if isinstance(error, Denied):
        error.hint = "ask for that right, or use another identity: --context, --kubeconfig or --as"
    elif isinstance(error, NoKindMatch):
        error.hint = "install the custom resource definitions with `gitwright install`"
    elif isinstance(error, Unreachable):
        error.hint = "see that the cluster runs and that --context names the right one"
