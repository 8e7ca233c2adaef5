"""What `composer main.py yamls/x.yaml key=value ...` starts: `detour train` under another name."""

import sys

from detour.cli.main import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
