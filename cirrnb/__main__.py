"""`python -m cirrnb` is the command `cirrnb`; launchers of several processes need it."""

from cirrnb.cli import main

if __name__ == "__main__":
    main()
