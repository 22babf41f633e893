"""Checks and makes Ed25519 signatures with OpenSSL's libcrypto, called directly.

`cryptography` calls the same function of the same library, but in Debian 12 its import is
nearly half of a short command in dom0; and a host that loads less has less to trust.
Functions and constants: OpenSSL 3, EVP_PKEY_new_raw_public_key(3), EVP_DigestVerify(3),
EVP_DigestSign(3), EVP_PKEY-ED25519(7).
"""

from __future__ import annotations

import ctypes
from functools import cache

#: By soname: the interface used is the same in both.
NAMES = ("libcrypto.so.3", "libcrypto.so.1.1")
_ED25519 = 1087  # NID_ED25519 (obj_mac.h)
#: Bytes.
_SIGNATURE = 64
_KEY = 32


def verifies(key: bytes, message: bytes, signature: bytes) -> bool | None:
    """Whether ``signature`` is that of the 32 bytes ``key`` over ``message``.

    None if this machine's library cannot tell (there is none, or it has no Ed25519).
    """
    library = _library()
    if library is None:
        return None
    public = library.EVP_PKEY_new_raw_public_key(_ED25519, None, key, len(key))
    context = library.EVP_MD_CTX_new()
    try:
        if not public or not context:
            return None
        if library.EVP_DigestVerifyInit(context, None, None, None, public) != 1:
            return None
        answer = library.EVP_DigestVerify(
            context, signature, len(signature), message, len(message))
        return bool(answer == 1)
    finally:
        library.EVP_MD_CTX_free(context)
        library.EVP_PKEY_free(public)
        # Python's own modules share the queue of errors
        library.ERR_clear_error()


def signs(key: bytes, message: bytes) -> bytes | None:
    """The signature of the private key with the 32 bytes ``key`` over ``message``.

    None if this machine's library cannot make one.
    """
    library = _library()
    if library is None:
        return None
    private = library.EVP_PKEY_new_raw_private_key(_ED25519, None, key, len(key))
    context = library.EVP_MD_CTX_new()
    try:
        if not private or not context:
            return None
        if library.EVP_DigestSignInit(context, None, None, None, private) != 1:
            return None
        made, size = ctypes.create_string_buffer(_SIGNATURE), ctypes.c_size_t(_SIGNATURE)
        if library.EVP_DigestSign(
                context, made, ctypes.byref(size), message, len(message)) != 1:
            return None
        return made.raw if size.value == _SIGNATURE else None
    finally:
        library.EVP_MD_CTX_free(context)
        library.EVP_PKEY_free(private)
        library.ERR_clear_error()


def public(key: bytes) -> bytes | None:
    """The 32 bytes of the public key of the private one ``key``; None as `signs`."""
    library = _library()
    if library is None:
        return None
    private = library.EVP_PKEY_new_raw_private_key(_ED25519, None, key, len(key))
    try:
        made, size = ctypes.create_string_buffer(_KEY), ctypes.c_size_t(_KEY)
        if not private or library.EVP_PKEY_get_raw_public_key(
                private, made, ctypes.byref(size)) != 1:
            return None
        return made.raw
    finally:
        library.EVP_PKEY_free(private)
        library.ERR_clear_error()


@cache
def _library() -> ctypes.CDLL | None:
    for name in NAMES:
        try:
            library = ctypes.CDLL(name)
            pointer, size, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
            for function, result, *arguments in (
                ("EVP_PKEY_new_raw_public_key", pointer, ctypes.c_int, pointer, text, size),
                ("EVP_MD_CTX_new", pointer),
                ("EVP_DigestVerifyInit", ctypes.c_int, pointer, pointer, pointer, pointer, pointer),
                ("EVP_DigestVerify", ctypes.c_int, pointer, text, size, text, size),
                ("EVP_PKEY_new_raw_private_key", pointer, ctypes.c_int, pointer, text, size),
                ("EVP_PKEY_get_raw_public_key", ctypes.c_int, pointer, pointer, pointer),
                ("EVP_DigestSignInit", ctypes.c_int, pointer, pointer, pointer, pointer, pointer),
                ("EVP_DigestSign", ctypes.c_int, pointer, pointer, pointer, text, size),
                ("EVP_MD_CTX_free", None, pointer),
                ("EVP_PKEY_free", None, pointer),
                ("ERR_clear_error", None),
            ):
                found = getattr(library, function)
                found.restype, found.argtypes = result, arguments
        except (OSError, AttributeError):
            continue
        return library
    return None
