"""A process that examines one mutation, `python -m handgrad.explorer.laboratory NAME`, and writes a frame of what it
found to standard output. A process, because training two small models takes seconds, and a thread cannot be ended."""

import sys

from .explorer import verdict

if __name__ == "__main__":
    sys.stdout.buffer.write(verdict(sys.argv[1]).frame())
