"""``python -m studio``: every button as a command."""

from studio.cli.main import main

if __name__ == "__main__":
    main()
