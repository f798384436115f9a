"""Lets `python -m wavespeed_runner` do what the command `wavespeed-runner` does."""

if __name__ == "__main__":
    # Before any other import: see there.
    from .process.import_path import leave_current_folder

    leave_current_folder()

    from .cli.main import console

    console()
