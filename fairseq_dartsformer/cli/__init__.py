"""The commands, one a file."""

import logging

# Importing fairseq turns on all debug notes, and matplotlib has some when it is imported.
logging.getLogger("matplotlib").setLevel(logging.WARNING)
