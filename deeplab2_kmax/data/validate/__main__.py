"""Runs the program."""

import sys

from deeplab2_kmax.data import validate

if __name__ == "__main__":
    sys.exit(validate.main(sys.argv))
