"""`shype attest` on the verifier: hosts, reference values, challenges and verdicts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output
from shype.cli.attest_host import read, show

if TYPE_CHECKING:
    from shype.attest.registry import Host
    from shype.attest.verifier import Verifier
    from shype.cli.types import Commands
    from shype.host.attest_result import Result

#: A verifier's directory, unless told otherwise.
VERIFIER = Path("/var/lib/shype-verifier")
_RAW = argparse.RawDescriptionHelpFormatter


def add(verbs: Commands) -> None:
    """Register the commands."""
    init = _verb(verbs, "init", "make this machine a verifier",
                 "Make the verifier's key and directory. What is there is never overwritten. With "
                 "--key it takes a key that there is, as policies know it already.",
                 "shype attest init --signer author.pub")
    init.add_argument("--signer", type=Path, metavar="FILE", action="append", required=True,
                      help="a .pub of `shype keys new`: who may sign reference values")
    init.add_argument("--key", type=Path, metavar="FILE",
                      help="a .key of `shype keys new` that is copied (default: a new key)")
    init.set_defaults(run=_init)
    admit = _verb(verbs, "admit", "let a host be enrolled",
                  "Admit a host by its TPM's identity, as `shype attest ek` shows it there. It is "
                  "enrolled when it has proved to have that TPM.",
                  "shype attest admit xen1 --reference xen-hosts --ek ID")
    admit.add_argument("name", metavar="NAME", help="how the host shall be called")
    what = admit.add_mutually_exclusive_group(required=True)
    what.add_argument("--reference", metavar="NAME",
                      help="the reference values that it is compared with")
    what.add_argument("--vm", action="store_true",
                      help="it is a VM with a TPM of its own: for `chain`, not `verify`")
    admit.add_argument("--ek", required=True, metavar="ID", help="its endorsement key's id")
    admit.set_defaults(run=_admit)
    step = _verb(verbs, "enrolment", "take an enrolment that travels by files one step further",
                 "A host's request: write the challenge. A host's answer: enrol the host.",
                 "shype attest enrolment request.json -o challenge.json")
    step.add_argument("file", type=Path, metavar="FILE", help="what the host wrote")
    step.add_argument("-o", "--output", type=Path, metavar="FILE", help="the challenge")
    step.set_defaults(run=_enrolment)
    publish = _verb(verbs, "publish", "use new reference values",
                    "Use the signed reference values from now on. Older ones than are there are "
                    "refused.", "shype attest publish xen-hosts.ref")
    publish.add_argument("file", type=Path, metavar="FILE", help="NAME.ref of `attest sign`")
    publish.set_defaults(run=_publish)
    challenge = _verb(verbs, "challenge", "ask a host for evidence, by a file",
                      "Write a challenge, good for two minutes.",
                      "shype attest challenge xen1 -o challenge.json")
    challenge.add_argument("name", metavar="NAME", help="the host")
    challenge.add_argument("-o", "--output", type=Path, required=True, metavar="FILE",
                           help="where it is written")
    challenge.add_argument("--observe", action="store_true",
                           help="over all registers of firmware and boot: for `observe` (a VM's "
                           "always is)")
    challenge.set_defaults(run=_challenge)
    observe = _verb(verbs, "observe", "take a host's firmware for reference values",
                    "Check that evidence is genuine, and write the registers of its firmware, "
                    "which cannot be computed. Whether it is good firmware is your word: look at "
                    "the machine.", "shype attest observe evidence.json -o server.firmware")
    observe.add_argument("file", type=Path, metavar="FILE", help="a host's evidence")
    observe.add_argument("-o", "--output", type=Path, required=True, metavar="FILE",
                         help="where it is written")
    observe.set_defaults(run=_observe)
    verify = _verb(verbs, "verify", "appraise evidence",
                   "Say what the evidence shows. Exit code 0: trusted, 1: not.",
                   "shype attest verify evidence.json -o result")
    verify.add_argument("file", type=Path, metavar="FILE", help="what `shype attest quote` wrote")
    verify.add_argument("-o", "--output", type=Path, metavar="FILE", help="the signed result")
    verify.set_defaults(run=_verify)
    hosts = _verb(verbs, "hosts", "all hosts and what is known of them",
                  "All hosts, and VMs. Exit code 1 unless all hosts are trusted now; of a VM only "
                  "`shype attest chain` can say something.", "shype attest hosts")
    hosts.set_defaults(run=_hosts)
    revoke = _verb(verbs, "revoke", "believe a host no longer",
                   "Believe nothing that the host shows, until it is forgotten and admitted anew.",
                   "shype attest revoke xen1 --why stolen")
    revoke.add_argument("name", metavar="NAME", help="the host")
    revoke.add_argument("--why", required=True, metavar="TEXT", help="the reason, for its results")
    revoke.set_defaults(run=_revoke)
    forget = _verb(verbs, "forget", "remove a host", "Remove a host and all that is known of it.",
                   "shype attest forget xen1")
    forget.add_argument("name", metavar="NAME", help="the host")
    forget.set_defaults(run=_forget)
    serve = _verb(verbs, "serve", "answer hosts over the network",
                  "Answer hosts: enrolment, challenges, results. Runs until it is stopped. Without "
                  "TLS only on this machine's own address.",
                  "shype attest serve --listen 0.0.0.0:8443 --tls-cert v.crt --tls-key v.key")
    serve.add_argument("--listen", default="127.0.0.1:8443", metavar="ADDRESS:PORT",
                       help="where (default %(default)s)")
    serve.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate chain, PEM")
    serve.add_argument("--tls-key", type=Path, metavar="FILE", help="its key, PEM")
    serve.set_defaults(run=_serve)
    for verb in (verify, serve):
        verb.add_argument("--life", type=int, default=600, metavar="SECONDS",
                          help="how long a result holds (default %(default)s)")


def _verb(verbs: Commands, name: str, help: str, text: str, example: str
          ) -> argparse.ArgumentParser:
    verb = verbs.add_parser(
        name, help=help, description=text, epilog=f"example:\n  {example}", formatter_class=_RAW)
    verb.add_argument("--state", type=Path, default=VERIFIER, metavar="DIR",
                      help="the verifier's directory (default %(default)s)")
    verb.add_argument("--json", action="store_true", help="print JSON")
    return verb


def open_verifier(args: argparse.Namespace) -> Verifier:
    """The verifier of the directory that is meant. Raises BadInput (``verifier.none``)."""
    from shype.attest.verifier import Verifier
    from shype.base.errors import BadInput
    from shype.cli.keys import read_private

    path = args.state / "verifier.key"
    if not path.exists():
        raise BadInput("verifier.none", f"{args.state} is no verifier's directory",
                       f"make it one: shype attest init --state {args.state} --signer author.pub")
    return Verifier(args.state, read_private(path), life=getattr(args, "life", 600))


def _init(args: argparse.Namespace) -> int:
    from shype.attest.verifier import Verifier
    from shype.base.errors import BadInput
    from shype.base.files import write_atomic
    from shype.cli.keys import read_private
    from shype.policy.ed25519 import PrivateKey, PublicKey

    signers = [PublicKey.from_pem(read(path), str(path)) for path in args.signer]
    if (args.state / "verifier.key").exists():
        raise BadInput("verifier.exists", f"{args.state} is a verifier's directory already",
                       "choose another with --state")
    key = PrivateKey.generate() if args.key is None else read_private(args.key)
    args.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    place = args.state / "signers"
    place.mkdir(exist_ok=True, mode=0o755)
    for signer in signers:
        write_atomic(place / f"{signer.id[:16]}.pub", signer.pem())
    write_atomic(args.state / "verifier.pub", key.public.pem())
    write_atomic(args.state / "verifier.key", key.pem(), 0o600)
    Verifier(args.state, key)
    if args.json:
        output.print_json({"state": str(args.state), "keyid": key.public.id})
        return 0
    print(f"{args.state / 'verifier.pub'} is for all who shall rely on this verifier")
    print(f"key id {key.public.id}")
    return 0


def _admit(args: argparse.Namespace) -> int:
    host = open_verifier(args).admit(args.name, args.reference, args.ek)
    return _done(args, {"host": host.name, "state": host.state},
                 f"{host.name} may enrol now: there, shype attest enrol {host.name}")


def _enrolment(args: argparse.Namespace) -> int:
    from shype.attest import enrolment
    from shype.base.errors import BadInput
    from shype.base.files import write_atomic

    verifier, data = open_verifier(args), read(args.file, enrolment.MAX_DOCUMENT)
    if b'"kind":"answer"' in data:
        host = verifier.complete(data)
        return _done(args, {"host": host.name, "state": host.state}, f"{host.name} is enrolled")
    challenge = verifier.enrol(data)
    if args.output is None:
        raise BadInput("attest.way", "the challenge needs a place", "-o challenge.json")
    write_atomic(args.output, challenge)
    return _done(args, {"state": "challenged"},
                 f"on the host: shype attest enrol NAME --challenge {args.output} -o answer.json")


def _publish(args: argparse.Namespace) -> int:
    found = open_verifier(args).publish(read(args.file), args.file.stem)
    return _done(
        args, {"reference": found.name, "serial": found.serial, "boots": len(found.boots),
               "firmware": len(found.firmware), "rules": len(found.rules)},
        f"{found.name}: {len(found.firmware)} firmware, {len(found.boots)} boots, "
        f"{len(found.rules)} rules for events")


def _challenge(args: argparse.Namespace) -> int:
    from shype.base import canonical
    from shype.base.errors import BadInput
    from shype.base.files import write_atomic
    from shype.host.attest_result import attester_id

    verifier = open_verifier(args)
    host = _host(verifier, args.name)
    if host.ak is None:
        raise BadInput("host.unknown", f"the host {host.name} is not enrolled yet",
                       "enrol it: shype attest enrol")
    every = args.observe or host.reference is None
    try:
        asked = verifier.challenge(attester_id(host.ak), range(10) if every else None)
    except BadInput as error:
        if error.id != "reference.missing":
            raise
        raise BadInput(
            "reference.missing", f"{host.name} is compared with the reference values "
            f"{host.reference!r}, and there are none",
            f"publish them: shype attest publish {host.reference}.ref; to `observe` firmware none "
            "are needed: --observe; a VM is admitted with --vm, and has none",
        ) from error
    write_atomic(args.output, canonical.dumps({
        "eat_nonce": asked.nonce.hex(), "pcrs": list(asked.pcrs), "exp": asked.expires}))
    return _done(args, {"host": host.name, "challenge": str(args.output)},
                 f"on {host.name}: shype attest quote --challenge {args.output} -o evidence.json")


def _observe(args: argparse.Namespace) -> int:
    from shype.attest.reference_values import FIRMWARE, firmware_out, observed
    from shype.base.files import write_atomic

    verifier = open_verifier(args)
    found = verifier.observe(read(args.file))
    host = verifier.registry.find(found.attester)
    boot = observed(f"firmware of {host.name}", found, FIRMWARE)
    write_atomic(args.output, firmware_out(boot))
    return _done(args, {"host": host.name, "pcrs": {str(k): v.hex() for k, v in boot.pcrs.items()}},
                 f"{args.output}: the firmware of {host.name}, for `shype attest sign --firmware`")


def _verify(args: argparse.Namespace) -> int:
    from shype.base.files import write_atomic

    result, sealed, _ = open_verifier(args).appraise(read(args.file))
    if args.output is not None:
        write_atomic(args.output, sealed)
    return show(result, as_json=args.json)


def _hosts(args: argparse.Namespace) -> int:
    import time

    verifier, now = open_verifier(args), time.time()
    rows, values, good = [], [], True
    for name in verifier.registry.names():
        host, last = verifier.registry.get(name), verifier.last(name)
        word, why = _standing(host, last, now)
        good = good and word in ("trusted", "none")
        age = f"{now - last.issued:.0f} s ago" if last is not None else ""
        rows.append([name, host.state, word, age, host.reference or "-", host.ek_id[:16], why])
        values.append({"host": name, "state": host.state, "verdict": word, "why": why,
                       "reference": host.reference, "ek": host.ek_id,
                       "issued": last.issued if last else None})
    if args.json:
        output.print_json({"hosts": values})
    else:
        output.table("", ["host", "state", "verdict", "seen", "reference", "ek", "why"], rows)
    return 0 if good else 1


def _host(verifier: Verifier, name: str) -> Host:
    """The host ``name``. Who the others are is told here, and never to who asks by network."""
    from shype.base.errors import BadInput

    try:
        return verifier.registry.get(name)
    except BadInput as error:
        known = verifier.registry.names()
        more = f", and {len(known) - 20} more: shype attest hosts" if len(known) > 20 else ""
        raise BadInput(
            "host.unknown", f"no host {name[:80]!r} is admitted here",
            f"known are {', '.join(known[:20])}{more}" if known else
            "no host is: --state names the verifier's directory",
        ) from error


def _standing(host: Host, last: Result | None, now: float) -> tuple[str, str]:
    """The verdict on a host now, ``none`` for a VM, and why."""
    if host.revoked is not None:
        return "failed", host.revoked
    if host.reference is None:
        return "none", "a VM: shype attest chain"
    if last is None:
        return "unknown", "no evidence yet"
    late = last.stale(now)
    if late is not None:
        return "unknown", str(late)
    return last.verdict.value, str(last.reasons[0]) if last.reasons else ""


def _revoke(args: argparse.Namespace) -> int:
    verifier = open_verifier(args)
    host = verifier.revoke(_host(verifier, args.name).name, args.why)
    return _done(args, {"host": host.name, "state": host.state}, f"{host.name} is revoked")


def _forget(args: argparse.Namespace) -> int:
    verifier = open_verifier(args)
    verifier.forget(_host(verifier, args.name).name)
    return _done(args, {"host": args.name, "state": "forgotten"}, f"{args.name} is forgotten")


def _serve(args: argparse.Namespace) -> int:
    from shype.attest.service import Service
    from shype.base.errors import BadInput

    address, _, port = args.listen.rpartition(":")
    if not address or not port.isdigit():
        raise BadInput("service.listen", f"{args.listen!r} is no address and port",
                       "for example --listen 127.0.0.1:8443")
    address = address.strip("[]")
    if args.tls_cert is args.tls_key is None and address not in ("127.0.0.1", "::1", "localhost"):
        raise BadInput("service.plain", "without TLS anybody between could change what is said",
                       "give --tls-cert and --tls-key, or listen at 127.0.0.1")
    service = Service(open_verifier(args), (address, int(port)), certificate=args.tls_cert,
                      key=args.tls_key, said=output.note)
    print(f"verifier at {service.url}", flush=True)
    with service:
        service.serve_forever()
    return 0


def _done(args: argparse.Namespace, value: dict[str, object], text: str) -> int:
    if args.json:
        output.print_json(value)
    else:
        print(text)
    return 0
