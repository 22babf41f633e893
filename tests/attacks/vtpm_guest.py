"""A guest that tries what it can with its own TPM, by its bare console: busybox and no relay."""

from __future__ import annotations

#: In the guest: it asks its TPM to exchange its identity's seed (TPM2_ChangeEPS, which takes the
#: platform hierarchy), sends it garbage, a command that says it is huge, and half of one; then it
#: asks for random bytes, twice, as the first goes with that half; and for the digest of a thousand
#: bytes, four times, which the console hands on in pieces. Shows the heads of the responses.
GUEST = r"""#!/bin/sh
tty=/dev/hvc1
until (exec 3<>$tty) 2>/dev/null; do sleep 0.2; done
exec 3<>$tty
stty raw -echo <&3
answer() { dd bs=1 count=10 <&3 2>/dev/null | hexdump -v -e '1/1 "%02x"'; }
quiet() { timeout $1 cat <&3 >/dev/null; }
e='\200\002\000\000\000\033\000\000\001\044\100\000\000\014\000\000\000\011'
e=$e'\100\000\000\011\000\000\000\000\000'
random='\200\001\000\000\000\014\000\000\001\173\000\010'
printf "$e" >&3
seed=$(answer)
(dd if=/dev/urandom bs=1k count=32 2>/dev/null
 printf '\200\001\377\377\377\377\000\000\001\173'
 dd if=/dev/zero bs=1k count=12 2>/dev/null
 printf '\200\001'; echo >/tmp/sent) >&3 &
until [ -e /tmp/sent ]; do quiet 1; done
quiet 2
printf "$random" >&3
quiet 1
printf "$random" >&3
after=$(answer)
quiet 1
(printf '\200\001\000\000\003\372\000\000\001\175\003\350'
 dd if=/dev/zero bs=1000 count=1 2>/dev/null
 printf '\000\013\100\000\000\007') >/tmp/hash
long=
for i in 1 2 3 4; do
    dd if=/tmp/hash bs=4k count=1 >&3 2>/dev/null
    long="$long $(answer)"
    quiet 1
done
echo "TPM-SAYS seed=$seed random=$after long=$long"
"""
#: Runs in dom0: puts it into a RAM disk.
PACK = f"""
from pathlib import Path
from shype.base import cpio
more = cpio.archive([cpio.file("guest-start", {GUEST.encode()!r}, 0o755)])
Path("/guest/asks").write_bytes(Path("/guest/initrd").read_bytes() + more)
"""
