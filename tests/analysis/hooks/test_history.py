"""Checks that Xen once missed or misplaced, before and after their fixes, in the shape of then.

The sources are restated from what the commits say; on whole trees the same answers came from
Xen 4.14.6 and 4.17.5 (docs/explanation/complete-mediation.md).
"""

from __future__ import annotations

from pathlib import Path

from shype.analysis.hooks.audit import Verdict
from shype.analysis.hooks.permissions import UNKNOWN
from tests.analysis.hooks.small_xen import rows, write

_DOMCTL = """
static struct domain *build(domid_t id, uint32_t label)
{
    struct domain *d = take(id);
    int err;

    if ( !d )
        return NULL;
    d->id = id;
    err = xsm_send(XSM_HOOK, d);
    if ( err )
        goto fail;
    return d;

 fail:
    release(d);
    return NULL;
}

long do_domctl(XEN_GUEST_HANDLE_PARAM(xen_domctl_t) u_domctl)
{
    struct xen_domctl curop, *op = &curop;
    struct domain *d = NULL;
    long ret;
    static domid_t rover;

    ret = xsm_domctl(XSM_OTHER, d, op->cmd);
    if ( ret )
        goto out;

    switch ( op->cmd )
    {
    case XEN_DOMCTL_new:
        rover = rover + 1;
        d = build(rover, op->label);
        ret = d ? 0 : -EPERM;
        break;

    case XEN_DOMCTL_pause:
        d->paused = true;
        break;

    case XEN_DOMCTL_adopt:
        d->parent = current->domain;
        break;
    }

 out:
    return ret;
}
"""


def _flask(root: Path, old: str, new: str) -> None:
    hooks = root / "xen/xsm/flask/hooks.c"
    text = hooks.read_text()
    assert old in text
    hooks.write_text(text.replace(old, new))


def test_domain_creation_was_checked_after_the_domain_was_made(tmp_path: Path) -> None:
    """ "XSM/domctl: Fix permission checks on XEN_DOMCTL_createdomain" (2024): FLASK deferred the
    question to a hook deep in domain_create(); any domain could move the domid counter."""
    from shype.analysis.hooks.audit import audit

    deferred = "case XEN_DOMCTL_adopt:\n"
    write(tmp_path, domctl=_DOMCTL)
    _flask(tmp_path, deferred, deferred + "    case XEN_DOMCTL_new:\n")
    before = {row.operation.name: row for row in audit(tmp_path)[1]}["XEN_DOMCTL_new"]
    assert before.verdict is Verdict.PARTLY
    assert before.finding
    assert [check.hook for check in before.checks] == ["xsm_send"]
    assert any(effect.what == "writes d->id" for effect in before.open)
    assert [check.hook for check in before.silent] == ["xsm_domctl"]

    _flask(tmp_path, "    case XEN_DOMCTL_new:\n", "")
    _flask(tmp_path, "    case XEN_DOMCTL_pause:\n",
           "    case XEN_DOMCTL_new:\n        return ask(d, DOMAIN__CREATE);\n"
           "    case XEN_DOMCTL_pause:\n")
    after = {row.operation.name: row for row in audit(tmp_path)[1]}["XEN_DOMCTL_new"]
    assert after.verdict is Verdict.MEDIATED
    assert not after.finding
    assert after.permissions == ("domain.create",)


def test_an_operation_that_flask_did_not_know(tmp_path: Path) -> None:
    """ "xen/flask: Wire up XEN_DOMCTL_{get,set}_paging_mempool_size" (2022, commit 345135942bf9):
    XSA-409 had added operations; FLASK had no permission for them."""
    before = rows(tmp_path / "before", domctl=_DOMCTL)["XEN_DOMCTL_new"]
    assert before.permissions == (UNKNOWN,)
    assert before.finding
    assert "no permission" in before.remark
    after = rows(tmp_path / "after", domctl=_DOMCTL)["XEN_DOMCTL_pause"]
    assert after.permissions == ("domain.pause",)
    assert not after.finding


def test_a_hook_that_leaves_it_to_another_is_no_check(tmp_path: Path) -> None:
    """FLASK answers 0 where another hook is to ask; here none does."""
    row = rows(tmp_path, domctl=_DOMCTL)["XEN_DOMCTL_adopt"]
    assert row.verdict is Verdict.UNMEDIATED
    assert [check.hook for check in row.silent] == ["xsm_domctl"]


def test_the_permission_of_another_class(tmp_path: Path) -> None:
    """What Xen 4.17 does for XEN_DOMCTL_setvnumainfo: the class of one, the bit of another."""
    from shype.analysis.hooks.audit import audit

    write(tmp_path, domctl=_DOMCTL)
    _flask(tmp_path, "return ask(d, DOMAIN__PAUSE);",
           "return current_has_perm(d, SECCLASS_DOMAIN, DOMAIN2__ADOPT);")
    vectors = tmp_path / "xen/xsm/flask/policy/access_vectors"
    vectors.parent.mkdir()
    vectors.write_text("class domain\n{\n    create # remark\n    pause\n}\n"
                       "class domain2\n{\n    relabel\n    adopt\n}\n")
    row = {row.operation.name: row for row in audit(tmp_path)[1]}["XEN_DOMCTL_pause"]
    assert row.permissions == ("domain.pause written as domain2.adopt",)
    assert row.finding
    assert "another class" in row.remark
