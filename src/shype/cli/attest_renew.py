"""`shype attest renew`: the host's standing, from time to time."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output
from shype.cli.agent import attesting_agent, event_log_of
from shype.cli.attest_host import log_is_there, require_log, show
from shype.cli.host import command

if TYPE_CHECKING:
    from shype.attest.renewal import Where
    from shype.cli.types import Commands
    from shype.host.agent import Agent
    from shype.host.attest_result import Result

_EPILOG = """\
VMs of attested labels start only while this host has a verifier's word that it
is trusted, and that word is good for minutes: see `attestation` in the policy.
This asks for it, and keeps it. With --go-on it does so for ever, at half the
time that each is good for; the unit shype-attest.service does that.

The verifier is the one of `shype attest enrol`, unless --verifier names it.

example: shype attest renew
exit codes: 0 trusted, 1 not trusted, 2 bad input, 3 the verifier or the TPM
does not answer
"""


def add(verbs: Commands) -> None:
    """Register the command."""
    renew = command(verbs, "renew", "renew the verifier's word on this host", _EPILOG, _renew)
    renew.add_argument("--verifier", metavar="URL", help="another verifier's address")
    renew.add_argument("--ca", type=Path, metavar="FILE", help="certificates by which it is known")
    renew.add_argument("--tpm", metavar="TCTI", help="which TPM (default: TPM2TOOLS_TCTI, or "
                       "device:/dev/tpmrm0)")
    renew.add_argument("--log", type=Path, metavar="FILE",
                       help="this boot's event log (default: the agent's)")
    renew.add_argument("--go-on", action="store_true", help="again and again, until it is ended")


def _renew(args: argparse.Namespace) -> int:
    from shype.attest import renewal
    from shype.base.errors import ShypeError
    from shype.host.attestation.standing import directory

    require_log(args.log)
    said = None
    while True:
        try:
            agent = attesting_agent(args)
            where = (renewal.Where(args.verifier, args.ca) if args.verifier
                     else renewal.remembered(directory(agent.state)))
            log = args.log or event_log_of(agent.state)
            # By the unit once, and not again with each renewal.
            measured = log.exists() if said is not None else log_is_there(log)
            result = _once(args, agent, where, log)
        except ShypeError as error:
            if not args.go_on:
                raise
            if said != error.id:
                output.note(f"shype: error: {error}")
            said = error.id
            time.sleep(renewal.AGAIN)
            continue
        if not args.go_on:
            return show(result, as_json=args.json, measured=measured)
        if said != result.verdict:
            show(result, as_json=args.json, measured=measured)
        said = result.verdict
        time.sleep(renewal.pause(agent, result))


def _once(args: argparse.Namespace, agent: Agent, where: Where, log: Path) -> Result:
    from shype.attest.attester import Attester
    from shype.attest.client import Remote
    from shype.attest.renewal import renew
    from shype.attest.tpm import Tpm
    from shype.host.attestation.standing import directory

    with Tpm(args.tpm) as tpm:
        attester = Attester(tpm, directory(agent.state), log)
        return renew(agent, attester, Remote(where.url, where.ca))
