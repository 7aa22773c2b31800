"""The type of options that are a whole number."""

import click


class WholeNumber(click.IntRange):
    """A whole number between two others, both included; named so where one is wrong."""

    name = "whole number"


COUNT = WholeNumber(1, 2**31 - 1)
PORT = WholeNumber(1, 65535)
