"""Writes source trees of a few lines, with the shape of Xen's and none of its text."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

from shype.analysis.hooks.audit import Row, audit

_PUBLIC = {
    "xen.h": "#define CONSOLEIO_write 0\n",
    "event_channel.h": """
#define EVTCHNOP_send  4
#define EVTCHNOP_open  6 /* some remark */
#define EVTCHNOP_probe 9
""",
    "grant_table.h": "#define GNTTABOP_copy 5\n",
    "domctl.h": "#define XEN_DOMCTL_pause 3\n#define XEN_DOMCTL_adopt 4\n#define XEN_DOMCTL_new 5\n"
                "#define XEN_DOMCTL_INTERFACE_VERSION 1\n",
}
_XSM = """
static inline int xsm_send(xsm_default_t def, struct domain *d)
{
    return xsm_ops.send(d);
}
static inline int xsm_open(xsm_default_t def, struct domain *d, struct domain *e)
{
    return xsm_ops.open(d, e);
}
static inline int xsm_domctl(xsm_default_t def, struct domain *d, int cmd)
{
    return xsm_ops.domctl(d, cmd);
}
static inline int xsm_adopt(xsm_default_t def, struct domain *d)
{
    return xsm_ops.adopt(d);
}
"""
_FLASK = """
static int ask(struct domain *d, uint32_t perm)
{
    return avc_has_perm(d->sid, SECCLASS_EVENT, perm, NULL);
}

static int flask_send(struct domain *d)
{
    return ask(d, EVENT__SEND);
}

static int flask_open(struct domain *d, struct domain *e)
{
    uint32_t perm = EVENT__CREATE;

    if ( d != e )
        perm |= EVENT__BIND;
    return ask(d, perm);
}

static int flask_domctl(struct domain *d, int cmd)
{
    switch ( cmd )
    {
    /* asked elsewhere */
    case XEN_DOMCTL_adopt:
#ifdef CONFIG_OTHER
    case XEN_DOMCTL_other:
#endif
        return 0;

    case XEN_DOMCTL_pause:
        return ask(d, DOMAIN__PAUSE);

    default:
        return avc_unknown_permission("domctl", cmd);
    }
}

static int flask_take(struct domain *d)
{
    return ask(d, DOMAIN2__ADOPT);
}

static const struct xsm_ops flask_ops = {
    .send = flask_send,
    .open = flask_open,
    .domctl = flask_domctl,
    .adopt = flask_take,
};
"""


def write(root: Path, **sources: str) -> Path:
    """A tree in ``root`` with ``sources`` in xen/common, by name without ``.c``."""
    xen = root / "xen"
    files = {f"include/public/{name}": text for name, text in _PUBLIC.items()}
    files |= {"include/xsm/xsm.h": _XSM, "xsm/flask/hooks.c": _FLASK,
              "Makefile": "export XEN_VERSION = 4\nexport XEN_SUBVERSION = 17\n"}
    files |= {f"common/{name}.c": text for name, text in sources.items()}
    for name, text in files.items():
        path = xen / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def rows(root: Path, **sources: str) -> dict[str, Row]:
    """The audit of such a tree, by operation."""
    _, found = audit(write(root, **sources))
    return {row.operation.name: row for row in found}


def events(root: Path, case: str, rest: str = "", before: str = "") -> Row:
    """The row of EVTCHNOP_send, whose case is ``case``; ``rest`` are further functions."""
    source = f"""
{rest}

long do_event_channel_op(int cmd, XEN_GUEST_HANDLE_PARAM(void) arg)
{{
    int rc = 0;
    struct domain *d = current->domain;
    struct evtchn *chn = find(d);
{before}
    switch ( cmd )
    {{
    case EVTCHNOP_send:
{indent(case, ' ' * 8)}

    case EVTCHNOP_open:
        rc = xsm_open(XSM_HOOK, d, d);
        if ( rc )
            break;
        chn->state = 1;
        break;

    default:
        rc = -ENOSYS;
        break;
    }}

    return rc;
}}
"""
    return rows(root, event_channel=source)["EVTCHNOP_send"]
