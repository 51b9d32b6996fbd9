"""argparse whose mistakes are InputErrors, as all of the program's are."""

import argparse
from typing import NoReturn

from utils.errors import InputError


class ArgumentParser(argparse.ArgumentParser):
    """`parse_args` raises InputError; a flag must be written out."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}\nusage: {self.usage}")
