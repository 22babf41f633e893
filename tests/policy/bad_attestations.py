"""Wrong policies with attested labels, one for each finding about them."""

from __future__ import annotations

from shype.policy.findings import Id
from tests.policy.bad_policy import Bad
from tests.policy.good_policies import ATTESTED

KEY = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="
SECTION = ATTESTED[ATTESTED.index("attestation:"):]

CASES = (
    Bad(Id.ATTESTED_NOBODY, SECTION, "", 8, 49, "names no verifier", "add `attestation:",
        base=ATTESTED),
    Bad(Id.ATTESTED_HOST, "boss: {coalitions: all}", "boss: {coalitions: all, attested: true}",
        7, 27, "dom0's label", "delete `attested`", base=ATTESTED),
    Bad(Id.ATTESTED_HOST, "unlabeled: {}", "unlabeled: {attested: true}", 10, 15, "have none",
        "delete `attested`", base=ATTESTED),
    Bad(Id.ATTESTED_HOST, "host: {dom0: boss", "  keeper: {locked: true, attested: true}\n"
        "host: {manager: keeper, dom0: boss", 11, 26, "the manager's label", "delete `attested`",
        base=ATTESTED),
    Bad(Id.VERIFIER_KEY, "{ops: ", f"{{night: {KEY}, ops: ", 14, 89, "has the key of `night`",
        "its own key", base=ATTESTED),
    Bad(Id.ATTESTATION_FRESH, "fresh: 5 minutes", "fresh: 2 days", 15, 10, "a day at most",
        "`1 day` or less", warning=True, base=ATTESTED),
    Bad(Id.TYPE_WRONG, SECTION, "attestation:\n", 13, 13, "it is nothing",
        "`verifiers:` is a mapping from names to", base=ATTESTED),
    Bad(Id.ATTESTATION_REFUGES, "lost: pause", "lost: evacuate", 16, 9, "no host to evacuate",
        "`refuges: [HOST]`", base=ATTESTED),
    Bad(Id.ATTESTATION_REFUGES, "  lost: pause\n", "  refuges: [host-b]\n", 16, 13,
        "nothing is evacuated", "`lost: evacuate`", base=ATTESTED),
    Bad(Id.ATTESTATION_UNUSED, ", attested: true", "", 13, 1, "no label is attested",
        "`attested: true`", warning=True, base=ATTESTED),
    Bad(Id.VALUE_NOT_ALLOWED, "lost: pause", "lost: stop", 16, 9, "`stop`", "pause",
        base=ATTESTED),
    Bad(Id.VALUE_NOT_ALLOWED, "fresh: 5 minutes", "fresh: 5 min", 15, 10, "`5 min`", "minutes",
        base=ATTESTED),
    Bad(Id.VALUE_NOT_ALLOWED, KEY, KEY[:-2], 14, 20, "public key", "middle", base=ATTESTED),
)
