"""What is on the seed's device of a machine that has no seed."""

import os
import tempfile
from pathlib import Path

# Guests learn the device's size when they boot, and one that becomes a machine with a seed has booted without. So this
# is as large as no seed is; it takes no space.
_BYTES = 256 << 30


def path(cache_dir: Path) -> Path:
    """A file of zeroes, made if need be. Raises `OSError`."""
    file = cache_dir / "no-seed"
    if not file.exists():
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache_dir, prefix="no-seed-", delete=False) as made:
            os.ftruncate(made.fileno(), _BYTES)
            os.fchmod(made.fileno(), 0o444)
        Path(made.name).rename(file)
    return file
