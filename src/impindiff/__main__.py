"""`python -m impindiff` is the command `impindiff`."""

from impindiff.cli import main

if __name__ == "__main__":
    main()
