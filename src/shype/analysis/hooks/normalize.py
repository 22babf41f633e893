"""Makes Xen's dialect of C plain enough for a parser that sees no macro definitions.

Every change keeps the number of characters and of lines, so that places stay true.
"""

from __future__ import annotations

import re

#: Attributes and qualifiers that are macros in Xen and say nothing about control flow.
_ATTRIBUTES = re.compile(
    r"\b(?:cf_check|always_inline|noinline|noreturn|nocall|unused|__must_check|"
    r"__init|__exit|__initdata|__initconst|__hwdom_init|__hwdom_initdata|__cpuinit|__weak|"
    r"__read_mostly|__ro_after_init|__maybe_unused|__used|__pure|__noreturn|__packed|__percpu|"
    r"asmlinkage|__user|__iomem|__force|pure|init_or_livepatch|init_or_livepatch_const|"
    r"__initconst_cf_clobber|__initdata_cf_clobber)\b"
)
_ATTRIBUTE_CALLS = re.compile(
    r"\b(?:__attribute__\s*\(\([^()]*(?:\([^()]*\))?[^()]*\)\)|__printf\s*\([^()]*\)|"
    r"__section\s*\([^()]*\)|__aligned\s*\([^()]*\)|__acquires\s*\([^()]*\))"
)
#: A macro that stands for a type: written as one identifier.
_TYPE_CALLS = re.compile(
    r"\b(?:COMPAT_HANDLE|COMPAT_HANDLE_PARAM|GUEST_HANDLE(?:_PARAM)?|"
    r"XEN_GUEST_HANDLE(?:_PARAM|_64)?|DEFINE_PER_CPU)"
    r"(\s*\(\s*[\w *]*\s*\))(?=\s*\*?\s*\w)"
)
_TYPEOF = re.compile(r"\b(?:__)?typeof(?:__)?\s*\([^()]*\)")
#: A structure's name as an argument of a macro: ``xmalloc(struct x)``.
_STRUCT = re.compile(r"(?<=[(,])(\s*)(struct|union)(?=\s+\w+\s*[,)])")
_RANGE = re.compile(r"(\bcase\b[^:\n]*?)(\s\.\.\.[^:\n]*)(?=:)")
#: Loops that are macros.
_LOOPS = re.compile(r"\b((?:[a-z]\w*_)?for_each_\w+|list_for_each\w*|hlist_for_each\w*|"
                    r"xlist_for_each\w*|rb_for_each\w*)(?=\s*\()")

def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def _loop(match: re.Match[str]) -> str:
    return "while".ljust(len(match[0])) if len(match[0]) >= 5 else match[0]


def normalize(text: str) -> str:
    """``text`` with Xen's own syntax replaced by plain C of the same shape and length."""
    text = _ATTRIBUTE_CALLS.sub(_blank, text)
    text = _ATTRIBUTES.sub(_blank, text)
    text = _TYPE_CALLS.sub(lambda m: re.sub(r"[() *]", "_", m[0]), text)
    text = _TYPEOF.sub(lambda m: re.sub(r"[^\w\n]", "_", m[0]), text)
    text = _STRUCT.sub(lambda m: m[1] + " " * len(m[2]), text)
    text = _RANGE.sub(lambda m: m[1] + " " * len(m[2]), text)
    # a definition of such a macro keeps its name
    lines = []
    for line in text.split("\n"):
        lines.append(line if line.lstrip().startswith("#") else _LOOPS.sub(_loop, line))
    return "\n".join(lines)


def without_directives(text: str) -> str:
    """``text`` without preprocessor lines, and of alternatives only the first one.

    For functions whose statements are cut by directives, which no parser of plain C can read.
    """
    kept: list[str] = []
    skipping: list[bool] = []
    continued = False
    for line in text.split("\n"):
        word = re.match(r"\s*#\s*(\w+)", line)
        if word is None:
            kept.append("" if continued or any(skipping) else line)
        else:
            kept.append("")
            if word[1] in ("if", "ifdef", "ifndef"):
                skipping.append(False)
            elif word[1] in ("else", "elif") and skipping:
                skipping[-1] = True
            elif word[1] == "endif" and skipping:
                skipping.pop()
        continued = (word is not None or continued) and line.endswith("\\")
    return "\n".join(kept)
