"""`python -m gateway` is the same as the `smsgw` command; the supervisor starts its workers this way."""

from gateway.cli import main

if __name__ == "__main__":
    main()
