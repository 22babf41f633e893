"""One wrong policy for each finding that the text of a policy can cause."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from shype.policy.findings import Id

#: A valid policy without warnings; the cases below each spoil one thing in it.
GOOD = """\
shype: 1
policy: {name: shop, version: "1.0"}
coalitions: [web, data]
walls:
  rivals: [red, blue]
labels:
  boss: {coalitions: all}
  front: {coalitions: [web, data], wall: [red]}
  back: {coalitions: [data], wall: [blue]}
  unlabeled: {}
host: {dom0: boss, drivers: []}
vms: {vm-1: front}
"""

#: Another one, with everything that `GOOD` has not.
RICH = """\
shype: 1
policy: {name: clinic, version: "1.4", from: "1.3", was: hospital}
coalitions:
  wards: {}
  lab: {mechanisms: [event, grant], write-up: true, was: tests}
  world: {mechanisms: [network]}
walls:
  firms: {members: [red, blue], was: rivals}
levels: {order: [public, internal, secret], categories: [names, pay]}
integrity: {order: [low, high]}
labels:
  boss: {coalitions: all}
  nic: {coalitions: all, level: [public, "secret {all}"], integrity: [low, high]}
  ward: {coalitions: [wards], level: "secret {names}", integrity: high, was: station}
  bench: {coalitions: [lab], wall: [red], level: secret, integrity: high}
  desk: {coalitions: [world], wall: [blue], level: public, integrity: low, mechanisms: [event]}
guards:
  release: {from: wards, to: world, level: [public, "secret {names}"], integrity: high,
    reason: "names are removed", expires: "2099-01-31"}
host: {dom0: boss, drivers: [nic]}
vms: {vm-1: release}
resource-labels:
  mail: {coalitions: [wards], level: "secret {names}", integrity: high, was: post}
  tpm: {inaccessible: true}
  unlabeled: {level: public, integrity: low}
resources:
  - {disk: "/dev/vg0/mail-*", label: mail}
  - {disk: /dev/vg0/mail-web, coalitions: [world], level: public, integrity: low}
  - {network: br-web, coalitions: [world], level: public, integrity: low}
  - {pci: "0000:03:00.*", label: mail}
  - {irq: 16, label: mail}
  - {ioport: "0x2f8-0x2ff", label: mail}
  - {memory: "0xfed40000-0xfed44fff", label: tpm}
retired: [theatre]
"""

#: `RICH`, and assertions about it.
ASSERTED = RICH + """\
assert:
  - {never: bench -> desk, via: [grant, event], reason: "rivals"}
  - {only-through: ward -> desk, by: [release], name: one-way-out}
  - {never: "coalition world -> w*", through: dom0}
  - {exactly: [ward -> release, release -> desk], among: [wall red, release]}
  - {levels-never-decrease: everyone, except: [release, nic]}
  - {integrity-never-increases: everyone}
  - {none-reaches-both: [bench, ward], who: coalition world}
  - {none-receives-from-both: [wall red, wall blue]}
"""
#: The day on which the policies here are judged.
TODAY = date(2030, 1, 1)


@dataclass(frozen=True, slots=True)
class Bad:
    """The first ``old`` in ``base`` becomes ``new``; then ``id`` is found at ``line``:``column``.

    ``says`` and ``fix`` are parts of the sentence and of the fix.
    """

    id: Id
    old: str
    new: str
    line: int
    column: int
    says: str
    fix: str
    warning: bool = False
    base: str = GOOD

    @property
    def text(self) -> str:
        """The spoiled policy."""
        if not self.old:
            return self.new
        assert self.old in self.base, self.old
        return self.base.replace(self.old, self.new, 1)


_DEEP = "[" * 40 + "]" * 40
_LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join(['*' + old] * 10)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

CASES = (
    # YAML
    Bad(Id.FILE_EMPTY, "", "", 1, 1, "nothing in the file", "shype: 1"),
    Bad(Id.FILE_EMPTY, "", "# only a comment\n---\n...\n", 1, 1, "nothing in the file", "shype: 1"),
    Bad(Id.FILE_CONTROL, "shop", "sh\0op", 2, 18, "U+0000", "delete"),
    Bad(Id.FILE_CONTROL, "shop", "sh\x1bop", 2, 18, "U+001B", "delete"),
    Bad(Id.YAML_SYNTAX, "[web, data]\n", "[web, data\n", 4, 6, "not valid YAML", "check brackets"),
    Bad(Id.YAML_SYNTAX, "vms: {vm-1: front}", "vms: {vm-1: front", 12, 6, "", "opened here"),
    Bad(Id.YAML_SYNTAX, "{name: shop,", "{name: \"shop,", 2, 33, "", "check"),
    Bad(Id.YAML_TAB, "  rivals", "\trivals", 5, 1, "a tab", "blanks"),
    Bad(Id.YAML_DOCUMENTS, "vms:", "---\nvms:", 12, 1, "second YAML document", "---"),
    Bad(Id.YAML_DUPLICATE_KEY, "  back:", "  front:", 9, 3, "(first in line 8)", "keep one"),
    Bad(Id.YAML_KEY_TYPE, "  unlabeled:", "  no:", 10, 3, "true or false", '"no"'),
    Bad(Id.YAML_KEY_TYPE, "  unlabeled:", "  12:", 10, 3, "a number", '"12"'),
    Bad(Id.YAML_KEY_TYPE, "  unlabeled:", "  [a]:", 10, 3, "list or mapping", "name"),
    Bad(Id.YAML_TAG, "name: shop", "name: !!python/name:os.system shop", 2, 16,
        "`!!python/name:os.system`", "delete the tag"),
    Bad(Id.YAML_TAG, "back: {", "back: !mine {", 9, 9, "`!mine`", "delete the tag"),
    Bad(Id.YAML_MERGE_KEY, "unlabeled: {}", "unlabeled: {<<: {wall: [red]}}", 10, 15, "`<<`",
        "write the entries out"),
    Bad(Id.YAML_ALIAS_UNKNOWN, "vm-1: front", "vm-1: *front", 12, 13, "`*front`", "&front"),
    Bad(Id.YAML_ALIAS_RECURSIVE, "[web, data]\n", "&c [web, *c]\n", 3, 22, "inside", "write"),
    Bad(Id.YAML_TOO_DEEP, "unlabeled: {}", f"unlabeled: {_DEEP}", 10, 44, "32 deep", "brackets"),
    Bad(Id.YAML_TOO_MANY, "", _LAUGHS, 6, 11, "250000 values", "aliases"),
    # structure
    Bad(Id.VERSION_UNSUPPORTED, "shype: 1", "shype: 2", 1, 8, "this shype reads version 1",
        "shype: 1"),
    Bad(Id.KEY_UNKNOWN, "vms:", "vm:", 12, 1, "`vm` is unknown", "did you mean `vms`?"),
    Bad(Id.KEY_UNKNOWN, "unlabeled: {}", "unlabeled: {zzz: 1}", 10, 15, "`zzz`", "`coalitions`"),
    Bad(Id.KEY_MISSING, "dom0: boss, ", "", 11, 1, "in `host`: `dom0`", "a name"),
    Bad(Id.KEY_MISSING, "", "shype: 1\n", 1, 1, "`policy`, `coalitions`, `labels`, `host`", "add"),
    Bad(Id.TYPE_WRONG, "", "- shype\n", 1, 1, "a list", "start with `shype: 1`"),
    Bad(Id.TYPE_WRONG, "", "just text\n", 1, 1, "this is text", "`shype: 1`"),
    Bad(Id.TYPE_WRONG, "shype: 1", "shype: one", 1, 8, "must be the number 1", "shype: 1"),
    Bad(Id.TYPE_WRONG, "shype: 1", "shype: [1]", 1, 8, "it is a list", "shype: 1"),
    Bad(Id.TYPE_WRONG, "shype: 1", "shype: {}", 1, 8, "it is a mapping", "shype: 1"),
    Bad(Id.TYPE_WRONG, "drivers: []", "minimum: [enforcing]", 11, 29, "a list", "`enforcing`"),
    Bad(Id.TYPE_WRONG, "drivers: []", "minimum: on", 11, 29, "true or false", "`enforcing`"),
    Bad(Id.TYPE_WRONG, "name: shop", "name: [shop]", 2, 16, "a list", "a name"),
    Bad(Id.TYPE_WRONG, "shype: 1", 'shype: "1"', 1, 8, "it is text", "shype: 1"),
    Bad(Id.TYPE_WRONG, "shype: 1", "shype: 1.0", 1, 8, "it is `1.0`", "shype: 1"),
    Bad(Id.TYPE_WRONG, "unlabeled: {}", "unlabeled:", 10, 13, "nothing", "`{}`"),
    Bad(Id.TYPE_WRONG, "wall: [blue]", "wall: blue", 9, 36, "`wall`", "[blue]"),
    Bad(Id.TYPE_WRONG, "drivers: []", "drivers: {}", 11, 29, "mapping", "list"),
    Bad(Id.TYPE_WRONG, "{vm-1: front}", "{vm-1: }", 12, 13, "`vm-1` must be a name", "a name"),
    Bad(Id.TYPE_QUOTE, 'version: "1.0"', "version: 1.0", 2, 31, "a number", '"1.0"'),
    Bad(Id.TYPE_QUOTE, "[web, data]\n", "[web, data, no]\n", 3, 25, "true or false", '"no"'),
    Bad(Id.TYPE_QUOTE, "vm-1: front", "vm-1: on", 12, 13, "true or false", '"on"'),
    Bad(Id.VALUE_NOT_ALLOWED, "drivers: []", "minimum: none", 11, 29, "`none`", "`enforcing`"),
    Bad(Id.VALUE_NOT_ALLOWED, "[data], wall", "data, wall", 9, 22, "`data`", "[data]"),
    Bad(Id.NAME_PATTERN, "name: shop", "name: My_Shop", 2, 16, "`My_Shop`", "`my-shop`"),
    Bad(Id.NAME_PATTERN, "[web, data]\n", "[web, data, 7]\n", 3, 25, "`7`", "web-1"),
    Bad(Id.NAME_PATTERN, "name: shop", 'name: "shop\\n"', 2, 16, "`shop\\n`", "`shop`"),
    Bad(Id.NAME_PATTERN, "  unlabeled:", "  a--b:", 10, 3, "`a--b`", "`a-b`"),
    Bad(Id.NAME_TOO_LONG, "name: shop", f"name: {'s' * 49}", 2, 16, "49 characters", "shorter"),
    Bad(Id.NAME_RESERVED, "[web, data]\n", "[web, data, all]\n", 3, 25, "`all`", "another"),
    Bad(Id.NAME_RESERVED, "coalitions: all", "coalitions: [all]", 7, 23, "`all`",
        "`coalitions: all`"),
    Bad(Id.POLICY_VERSION, '"1.0"', '"1"', 2, 31, "MAJOR.MINOR", '"1.0"'),
    Bad(Id.POLICY_VERSION, '"1.0"', '"01.2.3"', 2, 31, "`01.2.3`", '"1.2"'),
    Bad(Id.POLICY_VERSION, '"1.0"', "1", 2, 31, "`1` is not a version", '"1.0"'),
    Bad(Id.SET_EMPTY, "[data], wall", "[], wall", 9, 22, "`coalitions` is empty", "delete the key"),
    Bad(Id.SET_EMPTY, "[web, data]\n", "[]\n", 3, 13, "`coalitions` is empty", "at least one"),
    Bad(Id.LIST_DUPLICATE, "[web, data]\n", "[web, data, web]\n", 3, 25, "`web`", "delete one"),
    # meaning
    Bad(Id.COALITION_UNDECLARED, "[data], wall", "[dara], wall", 9, 23, "`dara`",
        "did you mean `data`?"),
    Bad(Id.COALITION_UNDECLARED, "[data], wall", "[qqqq], wall", 9, 23, "`qqqq`",
        "under `coalitions`"),
    Bad(Id.COALITION_ALL, "[data], wall", "all, wall", 9, 22, "`back` has all coalitions",
        "host.drivers"),
    Bad(Id.COALITION_UNUSED, "[web, data]\n", "[web, data, spare]\n", 3, 25, "`spare`", "delete",
        warning=True),
    Bad(Id.WALL_TOO_SMALL, "[red, blue]", "[red, blue]\n  lonely: [red]", 6, 11, "`lonely`",
        "two members"),
    Bad(Id.WALL_TOO_SMALL, "[red, blue]", "[red, blue]\n  lonely: []", 6, 11, "`lonely`",
        "two members"),
    Bad(Id.WALL_UNDECLARED_MEMBER, "wall: [blue]", "wall: [blu]", 9, 37, "`blu`",
        "did you mean `blue`?"),
    Bad(Id.WALL_SELF_CONFLICT, "wall: [red]", "wall: [red, blue]", 8, 48,
        "conflict set `rivals` (line 5)", "two labels"),
    Bad(Id.WALL_UNUSED_MEMBER, "[red, blue]", "[red, blue, pink]", 5, 23, "`pink`", "delete",
        warning=True),
    Bad(Id.LABEL_NOT_AUTHORIZED, "coalitions: all", "coalitions: [data]", 8, 3,
        "dom0 may not run `front`", "`coalitions: all`", warning=True),
    Bad(Id.LABEL_NOT_AUTHORIZED, "boss: {coalitions: all}", "boss: {}", 8, 3, "and 1 more",
        "never runs", warning=True),
    Bad(Id.HOST_DOM0_UNDECLARED, "dom0: boss", "dom0: bos", 11, 14, "`bos`",
        "did you mean `boss`?"),
    Bad(Id.HOST_DOM0_WALL, "coalitions: all", "coalitions: all, wall: [red]", 7, 34, "`boss`",
        "delete `wall`"),
    Bad(Id.HOST_DOM0_UNLABELED, "dom0: boss", "dom0: unlabeled", 11, 14, "`unlabeled`",
        "for dom0 alone"),
    Bad(Id.HOST_DRIVER_UNDECLARED, "drivers: []", "drivers: [bakc]", 11, 30, "`bakc`", "`back`"),
    Bad(Id.HOST_DRIVER_DOM0, "drivers: []", "drivers: [boss]", 11, 30, "`boss`", "delete"),
    Bad(Id.HOST_DRIVER_UNLABELED, "drivers: []", "drivers: [unlabeled]", 11, 30, "`unlabeled`",
        "declare"),
    Bad(Id.VM_ID, "vm-1: front", '"a b": front', 12, 7, "`a b`", "toolstack"),
    Bad(Id.VM_ID, "vm-1", "6F0C2D8E-3F57-4B0F-9A0C-6A1F5A4F2B11", 12, 7, "lower case",
        "6f0c2d8e"),
    Bad(Id.VM_DOM0, "vm-1: front", "Domain-0: front", 12, 7, "`Domain-0`", "host.dom0"),
    Bad(Id.VM_UNDECLARED_LABEL, "vm-1: front", "vm-1: frnt", 12, 13, "`frnt`", "`front`"),
    Bad(Id.VM_DOM0_LABEL, "vm-1: front", "vm-1: boss", 12, 13, "`vm-1`", "label of its own"),
    Bad(Id.VM_NAMED_LIKE_LABEL, "vm-1: front", "back: front", 12, 7,
        "the VM `back` has the label `front`", "`label:back`", warning=True),
    # levels, guards, mechanisms, updates
    Bad(Id.COALITION_WRITE_UP, "coalitions: [web, data]\n",
        "coalitions: {web: {write-up: true}, data: {}}\n", 3, 20, "`web` means nothing", "levels",
        warning=True),
    Bad(Id.MECHANISM_UNKNOWN, "[event, grant]", "[events, grant]", 5, 22, "`events`",
        "did you mean `event`?", base=RICH),
    Bad(Id.MECHANISM_UNKNOWN, "mechanisms: [event]", "mechanisms: [foreign]", 16, 89, "`foreign`",
        "one of", base=RICH),
    Bad(Id.TYPE_WRONG, "write-up: true", "write-up: 1", 5, 47, "true or false", "", base=RICH),
    Bad(Id.TYPE_WRONG,
        "[blue], level: public", "[blue], level: {public: []}", 16, 52, "a level, or a list of two",
        "a level", base=RICH),
    Bad(Id.TYPE_QUOTE, '"2099-01-31"', "2099-01-31", 19, 43, "a date in YAML", '"2099-01-31"',
        base=RICH),
    Bad(Id.TYPE_QUOTE,
        "level: [public, \"secret {all}\"]", "level: [1, secret]", 13, 34, "a number",
        '"1"', base=RICH),
    Bad(Id.SET_EMPTY, "integrity: {order: [low, high]}", "integrity: {order: []}", 10, 20,
        "`order` is empty", "at least one", base=RICH),
    Bad(Id.SET_TOO_LARGE,
        "[names, pay]", f"[names, pay, {', '.join(f'c{i}' for i in range(1100))}]",
        9, 57, "1102 entries", "fewer", base=RICH),
    Bad(Id.KEY_MISSING, "from: wards, ", "", 18, 3, "in `release`: `from`", "a name", base=RICH),
    Bad(Id.NAME_RESERVED, "[names, pay]", "[names, pay, all]", 9, 70, "category", "another",
        base=RICH),
    Bad(Id.NAME_RESERVED,
        '"secret {names}", integrity: high, was', '"secret {names, all}", integrity: high, was',
        14, 38, "every category", "`secret {all}`", base=RICH),
    Bad(Id.NAME_RESERVED, "from: wards", "from: all", 18, 19, "two coalitions", "name", base=RICH),
    Bad(Id.LIST_DUPLICATE,
        "[public, internal, secret]", "[public, secret, public, internal]", 9, 34,
        "`public`", "delete", base=RICH),
    Bad(Id.LIST_DUPLICATE,
        '"secret {names}", integrity: high, was', '"secret {names, names}", integrity: high, was',
        14, 38, "second time", "delete", base=RICH),
    Bad(Id.WALL_TOO_SMALL, "was: rivals}", "was: rivals}\n  lonely: {members: [red]}", 9, 21,
        "`lonely`", "two members", base=RICH),
    Bad(Id.WALL_SELF_CONFLICT, "reason:", "wall: [red, blue], reason:", 19, 17, "`release`",
        "two labels", base=RICH),
    Bad(Id.LEVEL_SYNTAX,
        "[blue], level: public", '[blue], level: "public {"', 16, 52, "`public {` is not a level",
        "NAME", base=RICH),
    Bad(Id.LEVEL_SYNTAX,
        "[blue], level: public", '[blue], level: ""', 16, 52, "not a level", "NAME", base=RICH),
    Bad(Id.LEVEL_SYNTAX, 'level: [public, "secret {all}"]', "level: [public]", 13, 33,
        "has 1 levels", "list of two", base=RICH),
    Bad(Id.LEVEL_SYNTAX, 'level: [public, "secret {all}"]', "level: [public, internal, secret]", 13,
        33, "has 3 levels", "list of two", base=RICH),
    Bad(Id.LEVEL_UNDECLARED, "[blue], level: public", "[blue], level: pubic", 16, 52, "`pubic`",
        "did you mean `public`?", base=RICH),
    Bad(Id.LEVEL_UNDECLARED, "integrity: low, mech", "integrity: public, mech", 16, 71, "`public`",
        "`integrity.order`", base=RICH),
    Bad(Id.CATEGORY_UNDECLARED,
        "[blue], level: public", '[blue], level: "public {nmaes}"', 16, 52, "`nmaes`",
        "did you mean `names`?", base=RICH),
    Bad(Id.LEVEL_MISSING,
        "[blue], level: public, ", "[blue], ", 16, 3, "the label `desk` has no `level`",
        "`public`", base=RICH),
    Bad(Id.LEVEL_MISSING,
        "integrity: low, mech", "mech", 16, 3, "the label `desk` has no `integrity`",
        "`low`", base=RICH),
    Bad(Id.LEVEL_MISSING, ' level: [public, "secret {names}"],', "", 18, 3,
        "the guard `release` has no `level`", "`public`", base=RICH),
    Bad(Id.LEVEL_WITHOUT_SECTION, "[data], wall", "[data], level: secret, wall", 9, 30,
        "has `level`, but the policy has no `levels`", "levels: {order"),
    Bad(Id.LEVEL_WITHOUT_SECTION, "[data], wall", "[data], integrity: high, wall", 9, 30,
        "no `integrity`", "integrity: {order"),
    Bad(Id.LEVEL_DOM0, "boss: {coalitions: all}", "boss: {coalitions: all, level: public}", 12, 27,
        "`boss`", "delete `level`", base=RICH),
    Bad(Id.LEVEL_RANGE, 'level: [public, "secret {all}"]', "level: [secret, public]", 13, 42,
        "from `secret` to `public`", "swap", base=RICH),
    Bad(Id.LEVEL_RANGE,
        'level: [public, "secret {all}"]', 'level: ["public {pay}", secret]', 13, 50,
        "from `public {pay}` to `secret`", "`secret {pay}`", base=RICH),
    Bad(Id.LEVEL_NOT_TRUSTED, "[blue], level: public", "[blue], level: [public, secret]", 16, 45,
        "`desk` has a range", "`host.drivers`", base=RICH),
    Bad(Id.GUARD_NAME, "  release:", "  desk: ", 18, 3, "(line 16)", "rename", base=RICH.replace(
        "vm-1: release", "vm-1: ward")),
    Bad(Id.COALITION_UNDECLARED, "to: world", "to: word", 18, 30, "`word`", "`world`", base=RICH),
    Bad(Id.GUARD_SAME, "to: world", "to: wards", 18, 30, "`wards` to itself", "two", base=RICH),
    Bad(Id.GUARD_REASON, '"names are removed"', '" "', 19, 13, "say something", "why", base=RICH),
    Bad(Id.GUARD_DATE, '"2099-01-31"', '"2099-02-30"', 19, 43, "`2099-02-30`", "YYYY", base=RICH),
    Bad(Id.GUARD_DATE, '"2099-01-31"', '"next year"', 19, 43, "`next year`", "YYYY", base=RICH),
    Bad(Id.GUARD_EXPIRED, '"2099-01-31"', '"2030-01-01"', 19, 43, "expired on 2030-01-01",
        "later day", base=RICH),
    Bad(Id.GUARD_EXPIRES_SOON, '"2099-01-31"', '"2030-01-31"', 19, 43, "in 30 days", "review",
        warning=True, base=RICH),
    Bad(Id.GUARD_EXPIRES_SOON, '"2099-01-31"', '"2030-01-02"', 19, 43, "in 1 day,", "review",
        warning=True, base=RICH),
    Bad(Id.GUARD_HOST, "dom0: boss", "dom0: release", 20, 14, "dom0's label", "declare",
        base=RICH.replace("vm-1: release", "vm-1: ward").replace("boss: {coalitions: all}",
                          "boss: {coalitions: [wards], level: public, integrity: low}")),
    Bad(Id.GUARD_HOST, "drivers: [nic]", "drivers: [nic, release]", 20, 35, "driver domain's",
        "declare", base=RICH),
    Bad(Id.GUARD_UNLABELED, "  release:", "  unlabeled:", 18, 3, "`unlabeled`", "another",
        base=RICH.replace("vm-1: release", "vm-1: ward")),
    Bad(Id.POLICY_FROM, 'from: "1.3"', 'from: "1.4"', 2, 46, "cannot replace version 1.4",
        "raise", base=RICH),
    Bad(Id.WAS_EXISTS, "was: hospital", "was: clinic", 2, 58, "`clinic`", "delete", base=RICH),
    Bad(Id.WAS_EXISTS, "was: station", "was: desk", 14, 78, "label `desk`", "delete", base=RICH),
    Bad(Id.WAS_EXISTS, "was: tests", "was: world", 5, 58, "coalition `world`", "delete", base=RICH),
    Bad(Id.WAS_EXISTS, "was: rivals", "was: firms", 8, 38, "conflict set `firms`", "delete",
        base=RICH),
    Bad(Id.WAS_TWICE, "wall: [red], level", "was: station, wall: [red], level", 15, 35,
        "(first in line 14)", "one of the two", base=RICH),
    # resources
    Bad(Id.TYPE_QUOTE, 'ioport: "0x2f8-0x2ff"', "ioport: 0x2f8", 32, 14, "a number", '"0x2f8"',
        base=RICH),
    Bad(Id.TYPE_QUOTE, 'pci: "0000:03:00.*"', "pci: 0000:03:00.0", 30, 11, "a number",
        '"0000:03:00.0"', base=RICH),
    Bad(Id.TYPE_WRONG, "irq: 16", "irq: 1.5", 31, 11, "an IRQ", "an IRQ", base=RICH),
    Bad(Id.TYPE_WRONG, 'level: "secret {names}", integrity: high, was: post',
        "level: [public, secret], integrity: high", 23, 38, "must be a level", "a level",
        base=RICH),
    Bad(Id.KEY_UNKNOWN, "{irq: 16,", "{irg: 16, irq: 17,", 31, 6, "`irg`", "`irq`", base=RICH),
    Bad(Id.NAME_RESERVED, "mail: {coalitions: [wards]", "mail: {coalitions: [all]", 23, 23,
        "names its own", "name", base=RICH),
    Bad(Id.COALITION_UNDECLARED, "mail: {coalitions: [wards]", "mail: {coalitions: [ward]", 23, 23,
        "`ward`", "`wards`", base=RICH),
    Bad(Id.LEVEL_MISSING, "{network: br-web, coalitions: [world], level: public,",
        "{network: br-web, coalitions: [world],", 29, 6, "the resource has no `level`", "`public`",
        base=RICH),
    Bad(Id.LEVEL_MISSING, "unlabeled: {level: public,", "unlabeled: {", 25, 3,
        "the resource label `unlabeled` has no `level`", "`public`", base=RICH),
    Bad(Id.LEVEL_UNDECLARED, "unlabeled: {level: public,", "unlabeled: {level: pubic,", 25, 22,
        "`pubic`", "`public`", base=RICH),
    Bad(Id.RESOURCE_KIND, "{irq: 16,", "{", 31, 5, "no kind", "add one of", base=RICH),
    Bad(Id.RESOURCE_KIND, "{irq: 16,", "{irq: 16, network: br-x,", 31, 15,
        "both `irq` and `network`", "an entry for each", base=RICH),
    Bad(Id.RESOURCE_NAME, "disk: /dev/vg0/mail-web", "disk: vg0/mail-web", 28, 12, "absolute path",
        "/dev", base=RICH),
    Bad(Id.RESOURCE_NAME, "disk: /dev/vg0/mail-web", "disk: /dev/../mail-web", 28, 12, "`..`",
        "/dev", base=RICH),
    Bad(Id.RESOURCE_NAME, '"/dev/vg0/mail-*"', '"/dev/vg0/mail-["', 27, 12, "never closed", "/dev",
        base=RICH),
    Bad(Id.RESOURCE_NAME, "network: br-web", 'network: "br web"', 29, 15, "no blanks", "br-web",
        base=RICH),
    Bad(Id.RESOURCE_NAME,
        '"0000:03:00.*"', '"03:00"', 30, 11, "DDDD:BB:SS.F", "0000:03", base=RICH),
    Bad(Id.RESOURCE_NAME, "irq: 16", "irq: 70000", 31, 11, "highest", "16-19", base=RICH),
    Bad(Id.RESOURCE_NAME, '"0x2f8-0x2ff"', '"2f8"', 32, 14, "start with 0x", "0x2f8", base=RICH),
    Bad(Id.RESOURCE_NAME, '"0x2f8-0x2ff"', '"0x2ff-0x2f8"', 32, 14, "downwards", "0x2f8",
        base=RICH),
    Bad(Id.RESOURCE_NAME, "0xfed44fff", "0xfed44000", 33, 14, "whole pages", "fff", base=RICH),
    Bad(Id.RESOURCE_LABEL, "{irq: 16, label: mail}", "{irq: 16}", 31, 6, "no label",
        "label: NAME", base=RICH),
    Bad(Id.RESOURCE_LABEL, "{irq: 16, label: mail}", "{irq: 16, label: mail, inaccessible: true}",
        31, 28, "has the label `mail` and `inaccessible`", "keep one", base=RICH),
    Bad(Id.RESOURCE_LABEL_UNDECLARED, "{irq: 16, label: mail}", "{irq: 16, label: mial}", 31, 22,
        "`mial`", "did you mean `mail`?", base=RICH),
    Bad(Id.RESOURCE_INACCESSIBLE, "tpm: {inaccessible: true}",
        "tpm: {inaccessible: true, coalitions: [lab]}", 24, 29, "no `coalitions`", "delete",
        base=RICH),
    Bad(Id.RESOURCE_CONFLICT,
        "  - {network", '  - {disk: "/dev/vg0/*-web", label: tpm}\n  - {network',
        29, 12, "`/dev/vg0/*-web` and `/dev/vg0/mail-*` (line 27) can name the same disk",
        "narrower", base=RICH),
    Bad(Id.RESOURCE_CONFLICT, "  - {network", "  - {disk: /dev/vg0/mail-web, label: tpm}\n"
        "  - {network", 29, 12, "another label in line 28", "delete one", base=RICH),
    Bad(Id.RESOURCE_CONFLICT, "{irq: 16, label: mail}",
        "{irq: 16-18, label: mail}\n  - {irq: 12-16, label: tpm}", 32, 11,
        "`12-16` and `16-18` (line 31) can name the same irq", "narrower", base=RICH),
    Bad(Id.RESOURCE_CONFLICT, "{irq: 16, label: mail}",
        '{irq: 16, label: mail}\n  - {pci: "03:00.*", label: tpm}', 32, 11, "line 30",
        "delete one", base=RICH),
    Bad(Id.RESOURCE_TOO_MANY, "  - {network", "".join(
        f"  - {{network: 'b*-{i}', label: mail}}\n" for i in range(1001)) + "  - {network",
        1029, 15,
        "the network patterns are too many", "at most 1000", base=RICH),
    Bad(Id.RESOURCE_TOO_MANY, "  - {network", "".join(
        f"  - {{disk: '/x{'?' * i}', level: public, integrity: {('low', 'high')[i % 2]}}}\n"
        for i in range(120, 160)) + "  - {network", 50, 12, "too complicated", "exact names",
        base=RICH),
    Bad(Id.RESOURCE_DUPLICATE, "{irq: 16, label: mail}",
        '{irq: 16, label: mail}\n  - {irq: "16-16", label: mail}', 32, 11, "second time",
        "delete one", warning=True, base=RICH),
    Bad(Id.RESOURCE_LABEL_UNUSED,
        "  tpm:", "  spare: {level: public, integrity: low}\n  tpm:", 24, 3,
        "`spare`", "delete", warning=True, base=RICH),
    Bad(Id.WAS_EXISTS, "was: post", "was: tpm", 23, 78, "resource label `tpm`", "delete",
        base=RICH),
    Bad(Id.RETIRED_EXISTS, "[theatre]", "[theatre, ward]", 34, 20, "still a label (line 14)",
        "delete", base=RICH),
    Bad(Id.RETIRED_EXISTS, "[theatre]", "[station]", 34, 11, "now named `ward` (line 14)", "`was`",
        base=RICH),
    Bad(Id.LIST_DUPLICATE, "[theatre]", "[theatre, theatre]", 34, 20, "`theatre`", "delete",
        base=RICH),
    # Assertions
    Bad(Id.ASSERT_KIND, "{integrity-never-increases: everyone}", "{reason: because}", 41, 5,
        "asserts nothing", "add one of `never`", base=ASSERTED),
    Bad(Id.ASSERT_KIND, "{integrity-never", "{never: ward -> desk, integrity-never", 41, 27,
        "both `never` and `integrity-never-increases`", "an entry for each", base=ASSERTED),
    Bad(Id.KEY_UNKNOWN, "{integrity-never", "{integrity-nevr", 41, 6, "integrity-nevr",
        "did you mean `integrity-never-increases`?", base=ASSERTED),
    Bad(Id.TYPE_WRONG, "{integrity-never-increases: everyone}", "nothing leaks", 41, 5,
        "a mapping with one kind", "write", base=ASSERTED),
    Bad(Id.TYPE_WRONG, "bench -> desk", "[bench -> desk]", 36, 13, "`never` must be", "FROM -> TO",
        base=ASSERTED),
    Bad(Id.TYPE_WRONG, "[bench, ward]", "bench", 42, 25, "`none-reaches-both` must be",
        "write a list: [bench]", base=ASSERTED),
    Bad(Id.ASSERT_OPTION, "through: dom0", "by: [release]", 38, 38, "`never` has no `by`",
        "`only-through`", base=ASSERTED),
    Bad(Id.ASSERT_OPTION, ", by: [release]", "", 37, 6, "does not say through what", "add `by`",
        base=ASSERTED),
    Bad(Id.ASSERT_SYNTAX, "bench -> desk", "bench desk", 36, 13, "no `->`", "`FROM -> TO`",
        base=ASSERTED),
    Bad(Id.ASSERT_SYNTAX, "bench -> desk", "bench -> desk -> ward", 36, 13, "more than one `->`",
        "`FROM -> TO`", base=ASSERTED),
    Bad(Id.ASSERT_SYNTAX, "ward -> release, ", "-> release, ", 39, 16, "nothing stands there",
        "`coalition NAME`", base=ASSERTED),
    Bad(Id.ASSERT_SYNTAX, "decrease: everyone", "decrease: the nurses", 40, 29,
        "more than one word", "`everyone`", base=ASSERTED),
    Bad(Id.ASSERT_SYNTAX, '-> w*"', '-> w["', 38, 13, "never closed", "a pattern", base=ASSERTED),
    Bad(Id.ASSERT_SYNTAX, "bench -> desk", '"[!\\e]* -> desk"', 36, 13, "cannot be shown",
        "a pattern", base=ASSERTED),
    Bad(Id.ASSERT_SYNTAX, "bench -> desk", f"{'b' * 201} -> desk", 36, 13, "at most 200",
        "a pattern", base=ASSERTED),
    Bad(Id.ASSERT_SYNTAX, "[bench, ward]", "[bench]", 42, 6, "1 is here", "[GROUP, GROUP]",
        base=ASSERTED),
    Bad(Id.ASSERT_UNKNOWN, "bench -> desk", "bench -> dsk", 36, 13, "no label `dsk`",
        "did you mean `desk`?", base=ASSERTED),
    Bad(Id.ASSERT_UNKNOWN, "coalition world ->", "coalition word ->", 38, 13, "no coalition `word`",
        "did you mean `world`?", base=ASSERTED),
    Bad(Id.ASSERT_UNKNOWN, "[wall red, wall blue]", "[wall red, wall bleu]", 43, 42,
        "no member of conflict sets `bleu`", "did you mean `blue`?", base=ASSERTED),
    Bad(Id.ASSERT_UNKNOWN, "by: [release]", "by: [releas]", 37, 39, "no label `releas`",
        "did you mean `release`?", base=ASSERTED),
    Bad(Id.ASSERT_NOTHING, '-> w*"', '-> z*"', 38, 13, "`z*` chooses no label", "delete the assert",
        base=ASSERTED),
    Bad(Id.ASSERT_NOTHING, '"coalition world -> w*"', '"war* -> ward"', 38, 13, "no pair of differ",
        "labels that differ", base=ASSERTED),
    Bad(Id.ASSERT_NOTHING, "only-through: ward ->", "only-through: release ->", 37, 20,
        "not in `by`", "out of `by`", base=ASSERTED),
    Bad(Id.ASSERT_NOTHING,
        "[ward -> release, release -> desk], among: [wall red, release]", "[]", 39, 6,
        "about nothing", "`among`", base=ASSERTED),
    Bad(Id.ASSERT_NOTHING,
        "[ward -> release, release -> desk], among: [wall red, release]", "[], among: [ward]",
        39, 6, "about nothing", "`among`", base=ASSERTED),
    Bad(Id.ASSERT_NOTHING, "increases: everyone", "increases: release", 41, 33,
        "all labels of `release` are excepted", "`except`", base=ASSERTED),
    Bad(Id.ASSERT_OVERLAP, "[wall red, wall blue]", "[wall red, coalition lab]", 43, 42,
        "`bench` is in both", "without a common", base=ASSERTED),
    Bad(Id.ASSERT_DOM0, "bench -> desk", "bench -> boss", 36, 13, "dom0 serves everyone",
        "`through: dom0`", base=ASSERTED),
    Bad(Id.ASSERT_LEVELS, "vms: {vm-1: front}",
        "vms: {vm-1: front}\nassert: [{levels-never-decrease: everyone}]", 13, 11,
        "no section `levels`", "declare `levels`"),
    Bad(Id.ASSERT_NAME, "everyone}\n  - {none", "everyone, name: one-way-out}\n  - {none", 41, 49,
        "`one-way-out` (line 37)", "rename", base=ASSERTED),
)
