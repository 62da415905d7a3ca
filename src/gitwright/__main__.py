"""`python -m gitwright`: the same as `gitwright`."""

from gitwright.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
