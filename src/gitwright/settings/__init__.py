"""The engine's settings: one table of options, and the reading of flags and environment.

Role in the flow: the command line and the composition root use this; values reach the rooms
as arguments, and no room imports it.
"""

from gitwright.settings.option import GATES, About, Gate, Option, SettingError, show, split_address
from gitwright.settings.sources import from_sources
from gitwright.settings.table import OPTIONS, Settings, option

__all__ = [
    "GATES",
    "OPTIONS",
    "About",
    "Gate",
    "Option",
    "SettingError",
    "Settings",
    "from_sources",
    "option",
    "show",
    "split_address",
]
