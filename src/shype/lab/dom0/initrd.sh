#!/bin/busybox sh
# First process of dom0: load the modules, hand over to the disk's user space.
# Init and agent come along in the RAM disk, so that a change of them needs no new disk image.
b=/bin/busybox
$b mount -t devtmpfs dev /dev
while read -r m; do $b insmod "/mod/$m" || echo "LAB-FAILED module $m"; done </mod/order
# What a Debian initramfs runs first, if somebody has put it in.
if [ -x /scripts/init-top/shype ]; then
  $b mount -t proc proc /proc
  $b mount -t sysfs sys /sys
  PATH=/bin /scripts/init-top/shype
  $b umount /proc /sys
fi
$b mount -t ext4 /dev/vda /new || { echo "LAB-FAILED root disk"; exec $b sh; }
$b mount -t tmpfs run /new/run
$b cp /init.sh /labd.py /new/run/
$b mount --move /dev /new/dev
exec $b switch_root /new /run/init.sh
