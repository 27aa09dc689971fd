"""Whether this folder is complete and as it was made: python3 check_room.py"""

import hashlib
import sys
from pathlib import Path

ROOM = Path(__file__).resolve().parent


def main() -> int:
    """Compare every file with its checksum; 1 if one is missing or has changed."""
    n_wrong = 0
    lines = (ROOM / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    for line in lines:
        wanted, name = line.split("  ", 1)
        path = ROOM / name
        if not path.is_file():
            print(f"missing: {name}")
            n_wrong += 1
        elif hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
            print(f"damaged: {name}")
            n_wrong += 1
    if n_wrong:
        print(f"{n_wrong} of {len(lines)} files are missing or damaged: copy the folder again.")
        return 1
    print(f"All {len(lines)} files are as they were.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
