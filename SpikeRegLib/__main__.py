"""`python -m SpikeRegLib` is the `spikereg` command."""

from SpikeRegLib.cli import entry

if __name__ == "__main__":
    entry()
