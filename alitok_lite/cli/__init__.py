"""The command line, `alitok COMMAND`: commands (program.py), their options, and what they do in the other files.

Help needs no torch: what a command needs is imported when it is run.
"""

from .program import main, parse
