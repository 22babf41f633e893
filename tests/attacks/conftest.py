"""What every area's attacks use."""

from tests.lab.conftest import lab_built

__all__ = ["lab_built"]
