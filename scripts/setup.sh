#!/bin/bash
# Install what shype needs: Debian packages (only those that are missing), then
# the Python environment.  Without root or apt it goes on and says what is not
# there: checking and explaining policies works without any of them, and the
# demo falls back to the model.
set -euo pipefail
venv=$1
python=${PYTHON:-python3}

# program or file -> Debian package
needs=(
  qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils secilc:secilc checkpolicy:checkpolicy
  mmdebstrap:mmdebstrap mke2fs:e2fsprogs cpio:cpio xz:xz-utils zstd:zstd m4:m4
  gcc:gcc make:make flex:flex bison:bison dpkg-source:dpkg-dev
  /usr/include/stdlib.h:libc6-dev /usr/lib/python3/dist-packages/setools:python3-setools
  /usr/share/seabios/bios-256k.bin:seabios dot:graphviz
  grub-mkimage:grub-common /usr/lib/grub/i386-pc/boot.img:grub-pc-bin lintian:lintian
  /usr/lib/grub/x86_64-efi/tpm.mod:grub-efi-amd64-bin /usr/share/OVMF/OVMF_CODE_4M.fd:ovmf
  mkfs.vfat:dosfstools mcopy:mtools
  swtpm:swtpm tpm2_quote:tpm2-tools /usr/include/tss2/tss2_esys.h:libtss2-dev pkg-config:pkg-config
  /usr/lib/x86_64-linux-gnu/libtss2-tcti-swtpm.so.0:libtss2-tcti-swtpm0
  nft:nftables rsyslogd:rsyslog /usr/lib/systemd/systemd-journald:systemd
)
export PATH=$PATH:/usr/sbin:/sbin
missing=()
for need in "${needs[@]}"; do
  thing=${need%%:*}
  case $thing in
    /*) [ -e "$thing" ] || missing+=("${need##*:}") ;;
    *) command -v "$thing" >/dev/null || missing+=("${need##*:}") ;;
  esac
done
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
  echo "setup: Debian packages to install: ${missing[*]}"
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
      echo "setup: apt-get could not install them; going on without (the lab will not work)" >&2
  else
    echo "setup: not root, or no apt-get: going on without them (the lab will not work)" >&2
  fi
fi

echo "setup: Python environment in $venv"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install -q --disable-pip-version-check -e '.[dev]'
