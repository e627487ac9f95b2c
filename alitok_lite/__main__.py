"""`python -m alitok_lite COMMAND` does the same as `alitok COMMAND`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
