"""The boot entries, as a block of GRUB's custom.cfg.

Debian's grub.cfg reads custom.cfg last, so its default wins, and no file of Debian's is changed.
A policy on trial is booted once: GRUB takes it out of its environment block *first*, reads the
block again, and boots the trial only if it is gone. So where GRUB cannot write (LVM, RAID, btrfs)
a trial is never booted, and never again and again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from shype.base.errors import BadInput
from shype.host.install.places import Places

#: `dom0_mem` must be given: the policy lets dom0 not balloon. The rest: docs/how-to/xen-host.md.
XEN_ARGS = ("flask=enforcing gnttab=max-ver:1,no-transitive conring_size=1M")
#: What may stand in a command line in a GRUB script without quotes.
_PLAIN = re.compile(r"[A-Za-z0-9_.,:=/@%+ -]*")
_VERSION = re.compile(r"\d+|[^\d]+")

_TEXT = """\
# Boots Xen with a policy of shype's. Do not edit: `shype host install` makes it anew.
# On trial: once, and only if GRUB has made sure that it will not be booted again.
set shype_dev=
insmod regexp
insmod loadenv
regexp --set=1:shype_dev '^\\(([^)]*)\\)' "$prefix"
set shype_env="(${{shype_dev}}){prefix}/shype/boot.env"
set shype_trial=
set shype_good=
set shype_tried=
set shype_next=
load_env --file "$shype_env" shype_trial shype_good shype_tried
if [ -n "$shype_trial" ]; then
  set shype_next="$shype_trial"
  set shype_tried="$shype_trial"
  set shype_trial=
  save_env --file "$shype_env" shype_trial shype_tried
  set shype_trial=unwritten
  load_env --file "$shype_env" shype_trial
  if [ -n "$shype_trial" ]; then
    echo "shype: GRUB cannot write its environment block: no trial is booted"
    set shype_next=
  fi
fi
export shype_dev
export shype_next
export shype_good
menuentry "Xen, shype's policy" --id shype {{
  echo "shype: policy $shype_good"
  set root="$shype_dev"
  insmod gzio
  insmod multiboot2
  multiboot2 {prefix}{xen} placeholder {xen_args}
  module2 {prefix}{kernel} placeholder {kernel_args} shype.policy=$shype_good
  module2 --nounzip {prefix}{initrd}
  module2 {prefix}/shype/$shype_good.bin
}}
if [ -n "$shype_next" ]; then
menuentry "Xen, shype's policy on trial" --id shype-trial {{
  echo "shype: policy $shype_next, on trial"
  set root="$shype_dev"
  insmod gzio
  insmod multiboot2
  multiboot2 {prefix}{xen} placeholder {xen_args}
  module2 {prefix}{kernel} placeholder {kernel_args} panic=10 shype.policy=$shype_next {trial}
  module2 --nounzip {prefix}{initrd}
  module2 {prefix}/shype/$shype_next.bin
}}
fi
# The fallback is for what GRUB itself cannot load.
if [ -n "$shype_next" ]; then
  if [ -n "$shype_good" ]; then
    set fallback=shype
  else
    set fallback="$default"
  fi
  set default=shype-trial
elif [ -n "$shype_good" ]; then
  set default=shype
fi
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is booted, paths from /boot on (``/xen-flask.gz``). ``watchdog``: seconds that a boot
    on trial has until it must be found healthy; 0 for ever."""

    xen: str
    kernel: str
    initrd: str
    xen_args: str
    kernel_args: str
    watchdog: int

    def text(self, places: Places) -> str:
        """The block. Raises BadInput (``boot.word``)."""
        for word in (self.xen, self.kernel, self.initrd, self.xen_args, self.kernel_args):
            if not _PLAIN.fullmatch(word):
                raise BadInput("boot.word", f"{word!r} cannot stand in GRUB's configuration",
                               "use letters, digits, blanks and _.,:=/@%+- only")
        trial = f"shype.trial shype.watchdog={self.watchdog}" if self.watchdog else "shype.trial"
        return _TEXT.format(
            prefix=places.prefix(), xen=self.xen, kernel=self.kernel, initrd=self.initrd,
            xen_args=self.xen_args, kernel_args=self.kernel_args, trial=trial)


def newest_kernel(places: Places) -> tuple[str, str]:
    """The newest kernel in /boot that has an initial RAM disk: the names of both, from /boot on.

    Raises BadInput (``boot.no-kernel``).
    """
    found = [(path, places.boot / path.name.replace("vmlinuz-", "initrd.img-"))
             for path in places.boot.glob("vmlinuz-*")]
    whole = sorted((pair for pair in found if pair[1].is_file()), key=lambda p: _order(p[0]))
    if not whole:
        raise BadInput("boot.no-kernel", f"{places.boot} has no vmlinuz-* with its initrd.img-*",
                       "install linux-image-amd64 and initramfs-tools, or name both with "
                       "--kernel and --initrd")
    return f"/{whole[-1][0].name}", f"/{whole[-1][1].name}"


def _order(path: Path) -> list[tuple[int, int, str]]:
    """Numbers compare as numbers: 6.1.0-9 before 6.1.0-10."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part)
            for part in _VERSION.findall(path.name)]
