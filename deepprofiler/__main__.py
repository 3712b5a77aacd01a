"""``python -m deepprofiler`` is the command ``deepprofiler``."""

from deepprofiler.cli import main

if __name__ == "__main__":
    main()
