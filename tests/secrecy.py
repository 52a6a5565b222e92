"""A password that is easily betrayed, and the search for it."""

from __future__ import annotations

import json
import re
from urllib.parse import quote, quote_plus

# Every character that a URL gives a meaning to, and pieces between them that nothing else contains:
# what is not escaped falls apart, and its pieces pass for a host, a port or an option.
PASSWORD = "Zq7x@Vx9w/Kj4m:Tp2r%+é?Qn8s#Wb5k"
USER = "secretive"


def leaks(text: str, password: str = PASSWORD) -> set[str]:
    """What of `password` can be found in `text`: whole, encoded, escaped, or in pieces."""
    spellings = {password, quote(password), quote(password, safe=""), quote_plus(password)}
    spellings |= {repr(password)[1:-1], json.dumps(password)[1:-1], ascii(password)[1:-1]}
    spellings |= {piece for piece in re.split(r"[^A-Za-z0-9]+", password) if len(piece) > 3}
    # Whatever becomes of its case: a host's name is written in lower case.
    found = text.casefold()
    return {spelling for spelling in spellings if spelling.casefold() in found}
