#!/bin/sh
# dom0's init: what Xen's tools need to work, then the agent.  No service manager: seconds matter.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/xen-4.17/bin HOME=/root
export PYTHONPATH=/opt/shype LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm /run/lock /run/xen /run/xenstored /run/shype /var/log/xen/console /root
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t xenfs xenfs /proc/xen
# Xen's hotplug scripts wait for ever if these are missing
ln -sfn /proc/self/fd /dev/fd
ln -sfn fd/0 /dev/stdin
ln -sfn fd/1 /dev/stdout
ln -sfn fd/2 /dev/stderr
[ -L /var/run ] || { rm -rf /var/run; ln -sfn /run /var/run; }
[ -L /var/lock ] || { rm -rf /var/lock; ln -sfn /run/lock /var/lock; }
mkdir -p /var/lib/xenstored /var/lib/shype /var/lib/xen
mount -t tmpfs xenstored /var/lib/xenstored
hostname lab 2>/dev/null
# The disk that GRUB booted from, if it did (`shype.lab.grub`).
[ -b /dev/vdc ] && mount -t ext4 -o sync /dev/vdc1 /boot
ip link set lo up
ip link add xenbr0 type bridge forward_delay 0 2>/dev/null
ip link set xenbr0 up
# Locked, as an enforcing host must have it (docs/adr/0022-xenstore.md).
xenstored --perm-nb 0 --pid-file /run/xenstored.pid
xen-init-dom0
xenconsoled --pid-file=/run/xenconsoled.pid --log=all
echo "LAB-AGENT $(cut -d' ' -f1 /proc/uptime)"
while :; do
  python3 -B /run/labd.py </dev/null >>/run/labd.log 2>&1
  echo "LAB-FAILED agent ended: $(tail -n 1 /run/labd.log)"
  sleep 1
done
