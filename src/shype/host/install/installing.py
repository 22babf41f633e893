"""Which files an installation wants, from the options and from what the host is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from shype.base import child
from shype.base.errors import BadInput
from shype.host.install import assets
from shype.host.install.changes import Wanted
from shype.host.install.entry import XEN_ARGS, Entry, newest_kernel
from shype.host.install.places import Places

_UNITS, _LINKS = "etc/systemd/system", "etc/systemd/system/multi-user.target.wants"


@dataclass(frozen=True, slots=True)
class Options:
    """What the administrator chose; kept, so that the next installation need not be told.

    ``xen``, ``kernel`` and ``initrd`` are paths from /boot on; empty kernel: the newest.
    """

    shype: str
    xen: str = "/xen-flask.gz"
    kernel: str = ""
    initrd: str = ""
    dom0_mem: str = "2048M"
    xen_args: str = XEN_ARGS
    kernel_args: str = ""
    watchdog: int = 600

    def to_json(self) -> dict[str, object]:
        """As `changes.apply` keeps it."""
        return asdict(self)


def kept(value: Mapping[str, object], shype: str) -> Options:
    """The options of the last installation; what is not among them as by default."""
    known = {name: value[name] for name in asdict(Options(shype)) if name in value}
    return Options(**{**known, "shype": shype})  # type: ignore[arg-type]


def wanted(places: Places, options: Options) -> tuple[Wanted, ...]:
    """Every file as it is to be.

    Raises BadInput: ``boot.no-xen``, ``boot.no-grub``, ``boot.no-kernel``, ``boot.word``.
    """
    if not (places.boot / options.xen.lstrip("/")).is_file():
        raise BadInput("boot.no-xen", f"there is no hypervisor {places.boot}{options.xen}",
                       "put a Xen with FLASK there, or name it with --xen "
                       "(docs/how-to/install.md says how one is built)")
    if not places.custom.parent.is_dir():
        raise BadInput("boot.no-grub", f"this host does not boot by GRUB: there is no "
                       f"{places.custom.parent}", "install grub-pc or grub-efi-amd64")
    kernel, initrd = ((options.kernel, options.initrd) if options.kernel
                      else newest_kernel(places))
    entry = Entry(options.xen, kernel, initrd,
                  f"dom0_mem={options.dom0_mem},max:{options.dom0_mem} {options.xen_args}".strip(),
                  options.kernel_args, options.watchdog)
    found = [Wanted("boot/grub/custom.cfg", entry.text(places), 0o600, block=True)]
    for name, text in assets.units(options.shype).items():
        packaged = places.root / "lib/systemd/system" / name
        home = "/lib/systemd/system" if packaged.is_file() else f"/{_UNITS}"
        if not packaged.is_file():
            found.append(Wanted(f"{_UNITS}/{name}", text))
        found.append(Wanted(f"{_LINKS}/{name}", f"{home}/{name}", link=True))
    if options.watchdog:
        found += [Wanted("etc/initramfs-tools/hooks/shype", assets.HOOK, 0o755),
                  Wanted("etc/initramfs-tools/scripts/init-top/shype", assets.ARM, 0o755)]
    hook = assets.KERNEL.format(shype=options.shype)
    found += [Wanted(f"etc/kernel/{when}.d/zz-shype", hook, 0o755)
              for when in ("postinst", "postrm")]
    version = xen_version(places)
    if version is not None:
        text = assets.XENSTORED.format(version=version)
        found.append(Wanted("etc/default/xen", text, block=True))
    return tuple(found)


def xen_version(places: Places) -> str | None:
    """The version of Xen's tools on the host (``4.17``); None if there are none."""
    found = sorted((places.root / "usr/lib").glob("xen-4.*/bin/xenstored"))
    return found[-1].parent.parent.name.removeprefix("xen-") if found else None


def kernel_args(command_line: str) -> str:
    """dom0's own arguments, of the running kernel: those that GRUB and shype add are left out."""
    skipped = ("BOOT_IMAGE=", "placeholder", "shype.", "panic=", "initrd=")
    return " ".join(word for word in command_line.split() if not word.startswith(skipped))


def refresh_system(places: Places, changed: tuple[str, ...]) -> tuple[str, ...]:
    """Tell Debian's programs about changed files; the command lines that were run.

    Only on the running system. Raises ChildFailed.
    """
    if places.root != Path("/"):
        return ()
    ran = []
    if any(path.startswith("etc/initramfs-tools/") for path in changed) and Path(
            "/usr/sbin/update-initramfs").exists():
        ran.append(child.run(["update-initramfs", "-u", "-k", "all"], timeout=900).command)
    if any(path.startswith("etc/systemd/") for path in changed) and Path(
            "/run/systemd/system").is_dir():
        ran.append(child.run(["systemctl", "daemon-reload"], timeout=60).command)
    return tuple(ran)
