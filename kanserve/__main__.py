"""`python -m kanserve` is the command line."""

from kanserve.cli import main

if __name__ == "__main__":
    main()
