"""GRUB as grub-install sets it up: lists and modules from the disk, against firmware's own log.

``data/modular-trial.txt`` is that log of a real boot in the lab (descriptions; its registers were
as predicted); the modules are those of the installed GRUB.
"""

from __future__ import annotations

from pathlib import Path

from shype.attest.boot import Kind, Machine
from shype.attest.grub.image import Image
from shype.lab import grub
from tests.attest.boot_tree import DEVICE, FIRST, tree
from tests.attest.test_boot import described, logged

#: What was in the image's script and modules then.
SCRIPT = f"search.fs_uuid {grub.UUID} root\nset prefix=($root)/grub\n"
BUILT_IN = frozenset((
    "acpi", "boot", "bufio", "configfile", "crypto", "datetime", "efi_gop", "ext2", "extcmd", "fat",
    "fshelp", "gcry_crc", "gettext", "gzio", "halt", "linux", "minicmd", "mmap", "multiboot2",
    "net", "normal", "part_msdos", "priority_queue", "regexp", "relocator", "search",
    "search_fs_file", "search_fs_uuid", "search_label", "terminal", "tpm", "true", "video",
    "video_fb"))
#: Before the lab's own grub.cfg: what grub-mkconfig writes, in pieces.
BEFORE = f"""\
clear
insmod all_video
insmod part_gpt
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
function savedefault {{
  if [ -z "${{boot_once}}" ]; then
    saved_entry="${{chosen}}"
    save_env saved_entry
  fi
}}
menuentry_id_option="--id"
export menuentry_id_option
search --no-floppy --fs-uuid --set=root {grub.UUID}
if [ x$feature_timeout_style = xy ] ; then
  set timeout_style=menu
else
  set timeout=5
fi
# a comment
savedefault
"""
SUBMENU = """\
submenu 'Adv' $menuentry_id_option "adv"  {
\t# inner
\tmenuentry 'x' { true; }
}
"""


def test_lists_modules_and_functions(tmp_path: Path) -> None:
    boot = tree(tmp_path)
    config = boot / "grub/grub.cfg"
    config.write_text(BEFORE + grub.CONFIG.replace("menuentry", SUBMENU + "menuentry", 1))
    (boot / "grub/x86_64-efi").symlink_to(grub.GRUB_EFI)
    program = Image(bytes(32), BUILT_IN, SCRIPT)
    way, = [way for way in Machine(boot, (program,), DEVICE).ways(FIRST, b"module")
            if way.kind is Kind.TRIAL]
    assert described(way.events) == logged("modular-trial")
