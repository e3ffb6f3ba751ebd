"""What is wrong in a file of settings, for people: each fault with its place and what to write instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from bsmtp_batch.config_place import place_of

Fault = tuple[str, str]
"""``file:line:column``, and the sentence."""

_PLAIN = {
    "string_type": "write a text in quotes",
    "string_pattern_mismatch": "write one line of text, without control characters",
    "int_type": "write a whole number",
    "bool_type": "write true or false",
    "list_type": 'write a list: ["one", "two"]',
    "greater_than": "write a number above 0",
    "greater_than_equal": "write 0 or a number above it",
    "model_type": "this is a section: write it in brackets, with its settings below",
    "dict_type": "this is a section: write it in brackets, with its settings below",
}
"""What to do about each kind of fault that the validator's own words would not tell a postmaster."""


def of_validation(
    path: str, text: str, error: ValidationError, top: type[BaseModel], sections: Mapping[str, type[BaseModel]]
) -> list[Fault]:
    """The faults in ``error``, in the order of their places in ``text``, the file ``path``. ``top`` is the whole file,
    ``sections`` the model of each section."""
    found = sorted((place_of(text, _where(one)), _fault(one, top, sections)) for one in error.errors())
    return [(_printable(f"{path}:{line}:{column}"), what) for (line, column), what in found]


def of_toml(path: str, message: str) -> Fault:
    """What the reader of TOML says of the file ``path``."""
    found = re.search(r"\(at line (\d+), column (\d+)\)", message)
    place = f"{path}:{found[1]}:{found[2]}" if found else path
    return _printable(place), _printable(message.split(" (at ", 1)[0])


def _printable(text: str) -> str:
    """``text`` on one line, whatever a file or a key in quotes is called."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def contradiction(sentence: str, *where: str) -> PydanticCustomError:
    """Two settings that cannot both be meant; ``where`` is the one to blame, seen from the section that is checked."""
    return PydanticCustomError("contradiction", "{sentence}", {"sentence": sentence, "where": where})


def _where(error: Any) -> tuple[str | int, ...]:
    """The setting that ``error`` is about."""
    return (*error["loc"], *error.get("ctx", {}).get("where", ()))


def _fault(error: Any, top: type[BaseModel], sections: Mapping[str, type[BaseModel]]) -> str:
    name = ".".join(str(part) for part in _where(error))
    if error["type"] == "extra_forbidden":
        what = "there is no such setting" + _did_you_mean(error["loc"], top, sections)
    else:
        told = error["msg"].removeprefix("Value error, ").replace("Input should be", "write")
        what = _PLAIN.get(error["type"], told)
    return _printable(f"{name}: {what}")


def _did_you_mean(
    location: tuple[str | int, ...], top: type[BaseModel], sections: Mapping[str, type[BaseModel]]
) -> str:
    known = list(sections) if len(location) == 1 else list(sections.get(str(location[0]), top).model_fields)
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known here: {', '.join(known)}"
