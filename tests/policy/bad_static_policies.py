"""Wrong static policies, one for each finding about them."""

from __future__ import annotations

from shype.policy.findings import Id
from tests.policy.bad_policy import Bad
from tests.policy.good_policies import GOOD, STATIC

CASES = (
    Bad(Id.VECTOR_NOT_STATIC, "static: true", "static: false", 15, 3, "not static",
        "`static: true`", base=STATIC),
    Bad(Id.VECTOR_UNDECLARED_LABEL, "[front, back]", "[front, bak]", 15, 19, "`bak`",
        "did you mean `back`?", base=STATIC),
    Bad(Id.VECTOR_DOM0, "[front, back]", "[front, boss]", 15, 19, "runs in every vector",
        "delete it", base=STATIC),
    Bad(Id.VECTOR_TOO_MANY, "vectors:\n", "vectors:\n" + "".join(
        f"  v{n}: all\n" for n in range(15)), 31, 3, "`service` is one vector more", "delete some",
        base=STATIC),
    Bad(Id.VECTOR_UNUSED_LABEL, "service: all", "service: [back]", 10, 3, "no vector has `unlab",
        "add it to a vector", warning=True, base=STATIC),
    Bad(Id.VALUE_NOT_ALLOWED, "service: all", "service: any", 16, 12, "`any`", "a list: [any]",
        base=STATIC),
    Bad(Id.HOST_STATIC_LIVE, "host: {dom0: boss", "host: {updates: live, dom0: boss", 11, 17,
        "the policy is static", "delete `static`", base=STATIC),
    Bad(Id.HOST_REVOCATION_BOOT, "host: {dom0: boss", "host: {revocation: pause, dom0: boss", 11,
        20, "taken at boot", "`updates: live`"),
    Bad(Id.VALUE_NOT_ALLOWED, "host: {dom0: boss", "host: {updates: now, dom0: boss", 11, 17,
        "`now`", "boot"),
    Bad(Id.TYPE_WRONG, STATIC.removeprefix(GOOD), "static: 1\n", 13, 9, "true or false",
        "true or false",
        base=STATIC),
)
