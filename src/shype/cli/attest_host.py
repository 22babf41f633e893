"""`shype attest` on a host: who its TPM is, enrolment, evidence."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output
from shype.cli.agent import HOME, add_options, attesting_agent, event_log_of

if TYPE_CHECKING:
    from shype.attest.attester import Attester
    from shype.attest.tpm import EkKind
    from shype.cli.types import Commands

_STATE = HOME / "attest"
_LOG = event_log_of(HOME)


def add(verbs: Commands) -> None:
    """Register the commands."""
    ek = _verb(verbs, "ek", "the identity of this host's TPM",
               "Show the id of this host's endorsement key, by which a verifier admits it. Read "
               "it at the host's own console: everything else rests on it.", "shype attest ek")
    _tpm(ek)
    ek.add_argument("--id", action="store_true", help="the id alone")
    ek.set_defaults(run=_ek)
    enrol = _verb(
        verbs, "enrol", "make this host known to its verifier",
        "Prove to a verifier that this host's attestation key is in the TPM that it has admitted. "
        "With --verifier all at once; or by files, in two steps.",
        "  shype attest enrol xen1 --verifier https://verifier:8443\n"
        "  shype attest enrol xen1 -o request.json         # to `attest enrolment`\n"
        "  shype attest enrol xen1 --challenge challenge.json -o answer.json", "enroll")
    enrol.add_argument("name", metavar="NAME", help="how the verifier has admitted it")
    _remote(enrol)
    enrol.add_argument("--challenge", type=Path, metavar="FILE",
                       help="the verifier's, to be answered")
    enrol.add_argument("-o", "--output", type=Path, metavar="FILE",
                       help="where the request or answer is written")
    enrol.add_argument("--new-key", action="store_true",
                       help="give up the present attestation key for a new one")
    _tpm(enrol)
    enrol.add_argument("--state", type=Path, default=_STATE, metavar="DIR",
                       help="where this host keeps its key (default %(default)s)")
    enrol.set_defaults(run=_enrol)
    quote = _verb(
        verbs, "quote", "answer a verifier's challenge",
        "Write evidence: the TPM's signed statement and this boot's event log.",
        "shype attest quote --challenge challenge.json -o evidence.json")
    quote.add_argument("--challenge", type=Path, metavar="FILE", required=True,
                       help="what `shype attest challenge` wrote")
    quote.add_argument("-o", "--output", type=Path, metavar="FILE", required=True,
                       help="where the evidence is written")
    _host(quote)
    quote.set_defaults(run=_quote)
    accept = verbs.add_parser(
        "accept", help="take a result that came as a file",
        description="Take the signed result of `shype attest verify` as this host's standing. "
        "Exit code 1 if the host is not trusted.",
        epilog="example:\n  shype attest accept result",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    accept.add_argument("file", type=Path, metavar="FILE", help="the signed result")
    add_options(accept)
    accept.set_defaults(run=_accept)


def _verb(verbs: Commands, name: str, help: str, text: str, example: str, *aliases: str
          ) -> argparse.ArgumentParser:
    lines = example if example.startswith(" ") else f"  {example}"
    verb = verbs.add_parser(
        name, aliases=aliases, help=help, description=text, epilog=f"example:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    verb.add_argument("--json", action="store_true", help="print JSON")
    return verb


def _tpm(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--tpm", metavar="TCTI", help="which TPM (default: TPM2TOOLS_TCTI, or "
                      "device:/dev/tpmrm0)")
    verb.add_argument("--ek-kind", choices=("ecc", "rsa"), default="ecc",
                      help="its identity: the one that has a certificate (default ecc)")


def _host(verb: argparse.ArgumentParser) -> None:
    _tpm(verb)
    verb.add_argument("--state", type=Path, default=_STATE, metavar="DIR",
                      help="where this host keeps its key (default %(default)s)")
    verb.add_argument("--log", type=Path, metavar="FILE",
                      help=f"this boot's event log (default {_LOG})")


def _remote(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--verifier", metavar="URL", help="its address, https://HOST:PORT")
    verb.add_argument("--ca", type=Path, metavar="FILE",
                      help="certificates by which it is known (default: the system's)")


def _kind(args: argparse.Namespace) -> EkKind:
    from shype.attest.tpm import EkKind

    return EkKind.RSA if args.ek_kind == "rsa" else EkKind.ECC


def _ek(args: argparse.Namespace) -> int:
    import hashlib

    from shype.attest.tpm import Tpm

    with Tpm(args.tpm) as tpm:
        public = tpm.ek(_kind(args))
        certificate = tpm.ek_certificate(_kind(args))
    id = hashlib.sha256(public).hexdigest()
    if args.json:
        output.print_json({"id": id, "kind": _kind(args).value,
                           "certificate": certificate is not None})
        return 0
    if args.id:
        print(id)
        return 0
    output.table("", ["endorsement key", ""], [
        ["id", id], ["kind", _kind(args).value],
        ["certificate", "the manufacturer's" if certificate else "none"]])
    return 0


def _enrol(args: argparse.Namespace) -> int:
    from shype.attest import renewal
    from shype.attest.attester import Attester
    from shype.attest.client import Remote
    from shype.attest.tpm import Tpm
    from shype.base.errors import BadInput
    from shype.base.files import write_atomic

    if (args.verifier is None) == (args.output is None):
        raise BadInput("attest.way", "either --verifier URL or -o FILE says where it goes",
                       "with a verifier's service: --verifier; by files: -o")
    with Tpm(args.tpm) as tpm:
        attester, kind = Attester(tpm, args.state), _kind(args)
        if args.verifier is not None:
            remote = Remote(args.verifier, args.ca)
            challenge = remote.post(
                "enrol", attester.request(args.name, kind, new_key=args.new_key))
            remote.post("complete", attester.answer(challenge, kind, host=args.name))
            _keep(attester, args)
            renewal.remember(args.state, renewal.Where(args.verifier, args.ca))
            done = "enrolled"
        elif args.challenge is None:
            write_atomic(args.output, attester.request(args.name, kind, new_key=args.new_key))
            done = "requested"
        else:
            write_atomic(args.output, attester.answer(read(args.challenge), kind, host=args.name))
            _keep(attester, args)
            done = "answered"
        id = attester.id if done != "requested" else None
    if args.json:
        output.print_json({"host": args.name, "state": done, "attester": id})
        return 0
    following = {
        "enrolled": f"{args.name} is enrolled; its key is {id}",
        "requested": f"on the verifier: shype attest enrolment {args.output} -o challenge.json",
        "answered": f"on the verifier: shype attest enrolment {args.output}",
    }
    print(following[done])
    return 0


def _keep(attester: Attester, args: argparse.Namespace) -> None:
    """The key that others know this host by is another from now on: that belongs in its trail."""
    from shype.host.audit.event import Event, Result
    from shype.host.audit.trail import Trail

    attester.keep()
    Trail(args.state.parent / "audit").record(Event(
        kind="attestation.key", result=Result.DONE, object=f"host:{args.name}",
        details={"attester": attester.id, "verifier": args.verifier}, deferrable=True))


def _quote(args: argparse.Namespace) -> int:
    from shype.attest.attester import Attester
    from shype.attest.client import parse_challenge
    from shype.attest.tpm import Tpm
    from shype.base.files import write_atomic

    nonce, pcrs = parse_challenge(read(args.challenge), str(args.challenge))
    require_log(args.log)
    _observe(args)
    log = args.log or _LOG
    measured = log_is_there(log)
    with Tpm(args.tpm) as tpm:
        data = Attester(tpm, args.state, log).quote(nonce, pcrs)
    write_atomic(args.output, data)
    if args.json:
        output.print_json({"evidence": str(args.output), "bytes": len(data), "measured": measured})
        return 0
    print(f"{args.output}: to the verifier, within two minutes")
    return 0


def _observe(args: argparse.Namespace) -> None:
    """Measure which policy is in force now and how: what changed behind the agent's back, too."""
    if args.state == _STATE and args.log in (None, _LOG):
        from shype.cli.agent import observe_host

        observe_host()


def require_log(path: Path | None) -> None:
    """A log that the user names is one: an empty log in its place would make a host look tampered.

    Raises BadInput: ``attest.file``, ``event-log.corrupt``.
    """
    from shype.attest import event_log
    from shype.base.errors import BadInput

    if path is None:
        return
    try:
        event_log.loads(read(path, event_log.MAX_LOG))
    except BadInput as error:
        if error.id == "attest.file":
            raise
        raise BadInput(
            "event-log.corrupt", f"{path} is no event log: {error.message}",
            f"the agent writes it, to {_LOG}, or to attest/run/event-log below its --state",
        ) from error


def log_is_there(path: Path) -> bool:
    """Whether anything was measured; if not, people are told."""
    if path.exists():
        return True
    output.note(f"shype: warning: nothing was measured since the boot: there is no {path} (in a "
                "VM that is as it should be; an agent with another --state has it elsewhere: "
                "--log)")
    return False


def _accept(args: argparse.Namespace) -> int:
    from shype.host.attest_result import MAX_RESULT
    from shype.host.attestation import standing

    agent = attesting_agent(args)
    return show(standing.keep(agent, read(args.file, MAX_RESULT)), as_json=args.json)


def show(result: object, *, as_json: bool, measured: bool | None = None) -> int:
    """Print an attestation result; the exit code is 0 only for a trusted host.

    ``measured``: for programs, whether this host has a log of what it measured (None: not known).
    """
    from shype.host.attest_result import Result, Verdict

    assert isinstance(result, Result)
    if as_json:
        more = {} if measured is None else {"measured": measured}
        output.print_json({**result.to_json(), **more})
    else:
        policy = result.policy
        output.table("", ["attestation", ""], [
            ["host", result.host], ["verdict", result.verdict.value],
            *(["because", str(reason)] for reason in result.reasons),
            ["policy", f"{policy.name} {policy.version} ({policy.bundle[:16]})"
             if policy else "not known"],
            *([["TPM", f"{result.reset_count} resets, {result.restart_count} restarts"]]
              if result.reset_count or result.verdict is not Verdict.FAILED else []),
            *([["holds", f"{result.expires - result.issued} s"]]
              if result.verdict is not Verdict.FAILED else []),
        ])
    return 0 if result.verdict is Verdict.TRUSTED else 1


def read(path: Path, limit: int = 64 * 1024 * 1024) -> bytes:
    """A file that the user names. Raises BadInput ``attest.file``."""
    from shype.base.errors import BadInput
    from shype.base.files import read_regular

    try:
        return read_regular(path, limit)
    except OSError as error:
        raise BadInput("attest.file", f"{path} cannot be read: {error.strerror}",
                       "`shype attest --help` has the order of steps") from error
