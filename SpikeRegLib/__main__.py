"""`python -m SpikeRegLib` is the `spikereg` command."""

import sys

from SpikeRegLib.cli import main

if __name__ == "__main__":
    sys.exit(main())
