"""Find the environment variable that is wrong when a connection cannot be made."""

from __future__ import annotations

import os
from collections.abc import Sequence

import httpx

from flashgraph.errors import DataError
from flashgraph.llm.addresses import masked

__all__ = ["CERTIFICATES", "PROXIES", "wrong_variable"]

CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
PROXIES = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")

EXPECTED = {
    "SSL_CERT_FILE": "a file with certificates in PEM format",
    "SSL_CERT_DIR": "a folder with certificates",
    "NO_PROXY": "names of hosts and addresses, separated by commas, IPv6 addresses without brackets",
}


def wrong_variable(names: Sequence[str], error: Exception) -> DataError:
    """Return an error that names which of these variables caused ``error``.

    It never shows a value, because a proxy's value may contain a password.
    """
    found = [known for name in names for known in (name, name.lower()) if os.environ.get(known)]
    wrong = [name for name in found if _is_wrong(name)] or [n for n in found if n.upper() == "NO_PROXY"] or found
    name = wrong[0] if wrong else names[0]
    expected = EXPECTED.get(name.upper(), "http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT")
    value = os.environ.get(name, "")
    # A library that ends a password at its slash quotes the part before that as a port.
    reason = "no address" if "@" in value and "port" in str(error) else masked(str(error))
    fix = "pip install 'httpx[socks]', or unset it" if isinstance(error, ImportError) else "correct it, or unset it"
    return DataError(f"environment variable {name}: cannot be used ({reason}); expected {expected}.\nFix: {fix}.")


def _is_wrong(name: str) -> bool:
    """Return whether a variable cannot be used, whatever the others are."""
    value = os.environ[name]
    if name.upper() in CERTIFICATES:
        return not os.path.exists(value) or os.path.isdir(value) != (name.upper() == "SSL_CERT_DIR")
    if name.upper() == "NO_PROXY":
        return False
    try:
        # httpx too takes a host without a scheme for an HTTP proxy.
        httpx.AsyncHTTPTransport(proxy=httpx.Proxy(value if "://" in value else f"http://{value}"))
    except (ValueError, ImportError, httpx.InvalidURL):
        return True
    return False
