"""The texts of the files that an installation puts on a host: units, initramfs, kernel hooks."""

from __future__ import annotations

#: For a program that changes Xen's state and what belongs to it. Not PrivateDevices or
#: ProtectClock, whose list of devices has no /dev/xen; not ProtectSystem=strict or ProtectHome,
#: because the QEMU of a VM that `shype watch` starts again writes to the VM's images, wherever
#: they are; no capability bound, because xl, nft and hotplug scripts need nearly all.
_SANDBOX = """\
ProtectSystem={system}
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectHostname=yes
PrivateTmp=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6
SystemCallArchitectures=native
NoNewPrivileges=yes
UMask=0077
"""

_COMMIT = """\
[Unit]
Description=shype: keep the policy on trial if this host is healthy with it
Documentation=man:shype(1)
After=local-fs.target xen.service xenstored.service xen-init-dom0.service
ConditionKernelCommandLine=shype.policy

[Service]
Type=oneshot
RemainAfterExit=yes
# A boot on trial that is not healthy is ended, and so is one that hangs, by Xen's watchdog: both
# fall back. A boot of the good policy is never ended: it would come back the same.
ExecStart={shype} host commit --reboot
TimeoutStartSec=300
{strict}ProtectHome=yes
ReadWritePaths=/var/lib/shype /boot/shype /etc/shype -/run -/dev

[Install]
WantedBy=multi-user.target
"""
_RECOVER = """\
[Unit]
Description=shype: clean up after a launch that the last boot interrupted
Documentation=man:shype(1)
After=shype-commit.service xen.service network.target
Requires=shype-commit.service
Before=xendomains.service
ConditionKernelCommandLine=shype.policy

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={shype} recover
ExecStart={shype} network load
{sandbox}
[Install]
WantedBy=multi-user.target
"""
_WATCH = """\
[Unit]
Description=shype: restart VMs under the policy, keep the record of denials
Documentation=man:shype(1)
After=shype-recover.service
Requires=shype-recover.service
ConditionKernelCommandLine=shype.policy

[Service]
ExecStart={shype} watch
Restart=always
RestartSec=5
# A guardian ends what a killed launch half made: it must outlive it.
KillMode=process
{sandbox}
[Install]
WantedBy=multi-user.target
"""

_ATTEST = """\
[Unit]
Description=shype: have this host's verifier look at it, and keep what it says
Documentation=man:shype(1)
After=shype-recover.service network-online.target
Wants=network-online.target
Requires=shype-recover.service
ConditionKernelCommandLine=shype.policy
# Only on a host that has been enrolled: shype attest enrol NAME --verifier URL
ConditionPathExists=/var/lib/shype/attest/verifier.json

[Service]
ExecStart={shype} attest renew --go-on
Restart=always
RestartSec=15
{strict}ProtectHome=yes
ReadWritePaths=/var/lib/shype -/run/shype -/dev

[Install]
WantedBy=multi-user.target
"""
_METER = """\
[Unit]
Description=shype: record what every VM uses
Documentation=man:shype(1)
After=shype-recover.service
Requires=shype-recover.service
ConditionKernelCommandLine=shype.policy
# Metering is switched on by `shype meter begin`.
ConditionPathExists=/var/lib/shype/meter/head.json

[Service]
ExecStart={shype} meter watch
Restart=always
RestartSec=5
{sandbox}
[Install]
WantedBy=multi-user.target
"""

#: Name -> text with the places of `units`.
_UNITS = {"shype-commit.service": _COMMIT, "shype-recover.service": _RECOVER,
          "shype-watch.service": _WATCH, "shype-attest.service": _ATTEST,
          "shype-meter.service": _METER}


def units(shype: str) -> dict[str, str]:
    """The systemd units, by name; ``shype`` is the program's path."""
    sandbox, strict = _SANDBOX.format(system="full"), _SANDBOX.format(system="strict")
    return {name: text.format(shype=shype, sandbox=sandbox, strict=strict)
            for name, text in _UNITS.items()}


#: initramfs-tools' hook: the watchdog drivers go into the initial RAM disk.
HOOK = """\
#!/bin/sh
# put here by `shype host install`
case "$1" in prereqs) exit 0 ;; esac
. /usr/share/initramfs-tools/hook-functions
manual_add_modules xen_wdt
"""

#: The first thing that dom0 runs. The driver's timer is Xen's: it goes on when dom0 hangs, and
#: the file is closed without the character that would stop it.
ARM = """\
#!/bin/sh
# put here by `shype host install`: a boot on trial ends by itself unless it is found healthy
case "$1" in prereqs) exit 0 ;; esac
seconds=
trial=
for word in $(cat /proc/cmdline); do
  case "$word" in
    shype.trial) trial=yes ;;
    shype.watchdog=*) seconds="${word#shype.watchdog=}" ;;
  esac
done
[ -n "$trial" ] && [ -n "$seconds" ] || exit 0
modprobe xen_wdt timeout="$seconds" || { echo "shype: no watchdog"; exit 0; }
for try in 1 2 3 4 5 6 7 8 9 10; do
  [ -c /dev/watchdog ] && break
  sleep 1
done
if [ -c /dev/watchdog ] && printf x > /dev/watchdog; then
  echo "shype: policy on trial, watchdog armed for $seconds s"
else
  echo "shype: no watchdog"
fi
exit 0
"""

#: Runs when a kernel comes or goes: the entry names the newest.
KERNEL = """\
#!/bin/sh
# put here by `shype host install`: the boot entry names the newest kernel
exec {shype} host install --refresh >/dev/null
"""

#: A block of /etc/default/xen: guests' parts of XenStore stay theirs.
XENSTORED = """\
XENSTORED=/usr/lib/xen-{version}/bin/xenstored
XENSTORED_ARGS="--perm-nb 0"
"""
