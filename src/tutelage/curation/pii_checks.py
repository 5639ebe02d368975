"""Check digits and address ranges behind the PII patterns."""

from __future__ import annotations

import ipaddress
import re

_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}"
    r"|6(?:011|4[4-9]\d|5\d\d)\d{12,15}|35\d{14}|(?:50|5[6-8]|6[0-9])\d{10,17}|(?:1800|2131)\d{11}"
)
_IBAN_LENGTHS = {
    **dict.fromkeys(("NO",), 15),
    **dict.fromkeys(("BE",), 16),
    **dict.fromkeys(("DK", "FI", "NL"), 18),
    **dict.fromkeys(("MK", "SI"), 19),
    **dict.fromkeys(("AT", "BA", "EE", "KZ", "LT", "LU"), 20),
    **dict.fromkeys(("CH", "HR", "LI", "LV"), 21),
    **dict.fromkeys(("BG", "DE", "GB", "GE", "IE", "ME", "RS", "BH", "CR"), 22),
    **dict.fromkeys(("AE", "GI", "IL"), 23),
    **dict.fromkeys(("AD", "CZ", "ES", "MD", "PK", "RO", "SA", "SE", "SK", "TN", "VG"), 24),
    **dict.fromkeys(("PT", "IS", "TR"), 25),
    **dict.fromkeys(("FR", "GR", "IT", "MC", "SM", "MR"), 27),
    **dict.fromkeys(("AL", "CY", "HU", "LB", "PL", "DO", "GT", "AZ"), 28),
    **dict.fromkeys(("BR", "PS", "QA", "UA"), 29),
    **dict.fromkeys(("JO", "KW", "MU"), 30),
    **dict.fromkeys(("MT",), 31),
}
# Addresses that name no one's machine. Documentation ranges are not among them: in text they stand for public ones.
_NOBODY = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.168.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "::/127", "fc00::/7", "fe80::/10", "ff00::/8"),
    )
)


def luhn(digits: str) -> bool:
    """Whether the last digit is the Luhn check digit (ISO/IEC 7812-1)."""
    values = [int(digit) for digit in reversed(digits)]
    doubled = sum(sum(divmod(2 * value, 10)) for value in values[1::2])
    return bool(values) and (sum(values[::2]) + doubled) % 10 == 0


def card_ok(text: str) -> bool:
    """Whether `text` (digits, spaces, hyphens) is a payment card number of a known issuer with its check digit."""
    digits = re.sub(r"[ -]", "", text)
    return bool(_ISSUERS.fullmatch(digits)) and luhn(digits) and len(set(digits)) > 2


def iban_ok(text: str) -> int:
    """The number of characters of `text` that are a valid IBAN (ISO 13616, mod 97), 0 if it begins with none."""
    wanted = _IBAN_LENGTHS.get(text[:2].upper(), 0)
    end = len(text)
    if not wanted or len(text.replace(" ", "")) < wanted:
        return 0
    while len(text[:end].replace(" ", "")) > wanted or text[end - 1] == " ":
        end -= 1
    code = text[:end].replace(" ", "").upper()
    number = "".join(str(int(character, 36)) for character in code[4:] + code[:4])
    return end if int(number) % 97 == 1 else 0


def public_address(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address that is not private, local, multicast or reserved."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not any(address.version == network.version and address in network for network in _NOBODY)
