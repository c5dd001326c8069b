"""``python -m studio``: every button as a command."""

from studio.cli import main

if __name__ == "__main__":
    main()
