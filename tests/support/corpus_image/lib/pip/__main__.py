import itertools
import sys
from pathlib import Path

arguments = sys.argv[1:]
for option, value in itertools.pairwise(arguments):
    if option == "-r" and not Path(value).is_file():
        sys.exit(f"ERROR: Could not open requirements file: {value}")
print("stand-in pip:", *arguments)
