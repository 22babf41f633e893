/* Loops for benchmarks: totals for N operations and for N empty hypercalls.
 * Under QEMU's -icount with shift=0 a nanosecond is one instruction. */
#include "probe.h"

#include <stddef.h>

#define BENCH_MAX 100000000ul

struct timer {
    uint64_t ns, tsc;
};

static struct timer start(void)
{
    return (struct timer){now_ns(), now_tsc()};
}

static void stop(struct reply *r, struct timer began, const char *ns, const char *tsc)
{
    uint64_t end_tsc = now_tsc(), end_ns = now_ns();
    put_number(r, ns, (long long)(end_ns - began.ns));
    put_number(r, tsc, (long long)(end_tsc - began.tsc));
}

static bool count_ok(const struct request *q, int index, unsigned long *n, struct reply *r)
{
    if (arg_number(q, index, n) && *n > 0 && *n <= BENCH_MAX)
        return true;
    answer_error(r, EINVAL, "N must be a number from 1 to 100000000");
    return false;
}

static void empty(struct reply *r, unsigned long n)
{
    struct timer began = start();
    for (unsigned long i = 0; i < n; i++)
        hypercall(HYPERVISOR_xen_version, 0, 0, 0, 0, 0);
    stop(r, began, "empty_ns", "empty_tsc");
}

static void finish(struct reply *r, unsigned long n, unsigned long failed, long rc,
                   const char *step)
{
    put_number(r, "n", (long long)n);
    put_number(r, "failed", (long long)failed);
    empty(r, n);
    if (failed == 0)
        answer_ok(r);
    else
        answer_rc(r, rc, step);
}

/* bench_send PORT N */
void op_bench_send(const struct request *q, struct reply *r)
{
    unsigned long port, n, failed = 0;
    long rc = 0, last = -EIO;
    if (!arg_number(q, 0, &port)) {
        answer_error(r, EINVAL, "usage: bench_send PORT N");
        return;
    }
    if (!count_ok(q, 1, &n, r))
        return;
    struct timer began = start();
    for (unsigned long i = 0; i < n; i++)
        if ((rc = event_send_raw((unsigned)port)) < 0) {
            failed++;
            last = rc;
        }
    stop(r, began, "ns", "tsc");
    finish(r, n, failed, last, "EVTCHNOP_send");
}

/* bench_copy PEER GREF N: 64 bytes out of the peer's page. */
void op_bench_copy(const struct request *q, struct reply *r)
{
    static _Alignas(4096) char page[PAGE];
    unsigned long peer, gref, n, failed = 0;
    long last = -EIO;
    if (!arg_number(q, 0, &peer) || !arg_number(q, 1, &gref)) {
        answer_error(r, EINVAL, "usage: bench_copy PEER GREF N");
        return;
    }
    if (!count_ok(q, 2, &n, r))
        return;
    struct timer began = start();
    for (unsigned long i = 0; i < n; i++) {
        int status = 0;
        int rc = grant_copy_once((unsigned)peer, (unsigned)gref, true, page, 0, 64, &status);
        if (rc < 0 || status != 0) {
            failed++;
            last = rc < 0 ? rc : status == -8 ? -EACCES : -EINVAL;
        }
    }
    stop(r, began, "ns", "tsc");
    finish(r, n, failed, last, "GNTTABOP_copy");
}

/* bench_map PEER GREF N: raw map and unmap, timed apart. */
void op_bench_map(const struct request *q, struct reply *r)
{
    unsigned long peer, gref, n, failed = 0;
    uint64_t map_ns = 0, map_tsc = 0, unmap_ns = 0, unmap_tsc = 0;
    long last = -EIO;
    if (!arg_number(q, 0, &peer) || !arg_number(q, 1, &gref)) {
        answer_error(r, EINVAL, "usage: bench_map PEER GREF N [ro]");
        return;
    }
    if (!count_ok(q, 2, &n, r))
        return;
    bool readonly = q->count > 3;
    for (unsigned long i = 0; i < n; i++) {
        struct raw_map map;
        struct timer a = start();
        int status = grant_map_raw((unsigned)peer, (unsigned)gref, readonly, &map);
        struct timer b = start();
        map_ns += b.ns - a.ns;
        map_tsc += b.tsc - a.tsc;
        if (status == 0) {
            a = start();
            status = grant_unmap_raw(&map);
            b = start();
            unmap_ns += b.ns - a.ns;
            unmap_tsc += b.tsc - a.tsc;
        }
        if (status != 0) {
            failed++;
            last = status <= -1000 ? status + 1000 : status == -8 ? -EACCES : -EINVAL;
        }
    }
    put_number(r, "map_ns", (long long)map_ns);
    put_number(r, "map_tsc", (long long)map_tsc);
    put_number(r, "unmap_ns", (long long)unmap_ns);
    put_number(r, "unmap_tsc", (long long)unmap_tsc);
    put_number(r, "ns", (long long)(map_ns + unmap_ns));
    put_number(r, "tsc", (long long)(map_tsc + unmap_tsc));
    finish(r, n, failed, last, "GNTTABOP_map_grant_ref");
}
