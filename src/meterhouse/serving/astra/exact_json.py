"""Decimals in requests, with all their digits and their sign.

astrapy 2.3.2 sends a Decimal as a bare number only when it is written in digits and a
point: -1.5 and 1E-7 leave it as text between marks, which no database can read. So requests
are written here.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Final

from meterhouse.errors import ConfigError

__all__ = ["exact_json", "send_exactly"]

_HARD: Final = {"x": [Decimal("-0.10"), Decimal("1E-7"), Decimal("0E-9")]}
_WRITTEN: Final = '{"x":[-0.10,1E-7,0E-9]}'


def exact_json(value: Any) -> str:
    """Return ``value`` as JSON; a Decimal is a number with all its digits.

    Raises:
        TypeError: It holds what JSON has no form for.
    """
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        parts = [f"{exact_json(str(name))}:{exact_json(one)}" for name, one in value.items()]
        return "{" + ",".join(parts) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(exact_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def send_exactly(remote: Any) -> None:
    """Let a table of astrapy's write its requests here, where its own way loses a digit.

    Raises:
        ConfigError: This astrapy is put together otherwise than the one we know.
    """
    try:
        commander = remote._api_commander
        if commander._decimal_aware_encode_payload(_HARD) == _WRITTEN:
            return
    except AttributeError as error:
        raise ConfigError(
            "this version of astrapy is not known to send decimals exactly",
            "",
            "install the one that constraints.txt names: pip install astrapy==2.3.2",
        ) from error
    commander._decimal_aware_encode_payload = _request


def _request(payload: dict[str, Any] | None) -> str | None:
    return None if payload is None else exact_json(payload)
