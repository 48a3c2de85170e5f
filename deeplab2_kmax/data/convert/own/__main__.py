"""Runs the converter."""

import sys

from deeplab2_kmax.data.convert import own

if __name__ == "__main__":
    sys.exit(own.main(sys.argv))
