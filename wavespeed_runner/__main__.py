"""Lets `python -m wavespeed_runner` do what the command `wavespeed-runner` does."""

from .cli.main import console

if __name__ == "__main__":
    console()
