/* What FLASK tells to any domain that asks, and one way to abuse it. */
#define _GNU_SOURCE
#include "probe.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define FLASK_GETENFORCE 2
#define FLASK_POLICYVERS 10
#define FLASK_GETBOOL 11
#define FLASK_MLS 14
#define FLASK_GETAVC_THRESHOLD 16
#define FLASK_AVC_HASHSTATS 18
#define FLASK_AVC_CACHESTATS 19
#define XENVER_extraversion 1

static struct {
    uint32_t command, version;
    union {
        struct {
            uint32_t id;
            uint8_t value, pending, wanted, commit;
            uint32_t size;
            uint64_t name;
        } boolean;
        uint32_t words[64]; /* cachestats: cpu, lookups, hits, misses, ... */
    } u;
} op;

static long ask(uint32_t command)
{
    op.command = command;
    op.version = 1;
    return hypercall(HYPERVISOR_xsm_op, POINTER(&op), 0, 0, 0, 0);
}

/* bool_list: every boolean with its value, by number: names need not be known. */
void op_bool_list(const struct request *q, struct reply *r)
{
    static char name[128], all[4096];
    size_t used = 0;
    long rc = 0;
    (void)q;
    all[0] = '\0';
    for (uint32_t id = 0; id < 4096; id++) {
        memset(&op, 0, sizeof op);
        memset(name, 0, sizeof name);
        op.u.boolean.id = id;
        op.u.boolean.size = sizeof name - 1;
        op.u.boolean.name = POINTER(name);
        rc = ask(FLASK_GETBOOL);
        if (rc < 0)
            break;
        int more = snprintf(all + used, sizeof all - used, "%s%s=%u", used ? " " : "", name,
                            op.u.boolean.value);
        if (more < 0 || (size_t)more >= sizeof all - used)
            break;
        used += (size_t)more;
    }
    /* the number after the last does not exist; nor does the device, without Xen */
    if (rc < 0 && (rc != -ENOENT || used == 0)) {
        answer_rc(r, rc, "FLASK_GETBOOL");
        return;
    }
    put_text(r, "booleans", all);
    answer_ok(r);
}

/* flask_facts: the queries for which FLASK has no permission. */
void op_flask_facts(const struct request *q, struct reply *r)
{
    static const struct {
        const char *name;
        uint32_t command;
    } plain[] = {
        {"enforcing", FLASK_GETENFORCE},
        {"policyvers", FLASK_POLICYVERS},
        {"mls", FLASK_MLS},
        {"avc_threshold", FLASK_GETAVC_THRESHOLD},
    };
    long rc;
    (void)q;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        memset(&op, 0, sizeof op);
        rc = ask(plain[i].command);
        if (rc < 0) {
            answer_rc(r, rc, plain[i].name);
            return;
        }
        put_number(r, plain[i].name, rc);
    }
    memset(&op, 0, sizeof op);
    if ((rc = ask(FLASK_AVC_HASHSTATS)) < 0) {
        answer_rc(r, rc, "FLASK_AVC_HASHSTATS");
        return;
    }
    put_number(r, "avc_entries", op.u.words[0]);
    memset(&op, 0, sizeof op);
    if ((rc = ask(FLASK_AVC_CACHESTATS)) < 0) {
        answer_rc(r, rc, "FLASK_AVC_CACHESTATS");
        return;
    }
    put_number(r, "avc_lookups", op.u.words[1]);
    put_number(r, "avc_misses", op.u.words[3]);
    answer_ok(r);
}

/* One sleep, no polling: each wake-up would take the processor from the other side. */
static void rest_until(uint64_t ns)
{
    struct timespec until = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

/* lookups_send GAP_MS ZERO ONE BITS: for each bit, make ZERO or ONE calls that FLASK checks,
 * then rest. */
void op_lookups_send(const struct request *q, struct reply *r)
{
    static char answer[16];
    unsigned long gap, calls[2];
    const char *bits = arg_text(q, 3);
    if (!arg_number(q, 0, &gap) || !arg_number(q, 1, &calls[0]) || !arg_number(q, 2, &calls[1]) ||
        !*bits || bits[strspn(bits, "01")]) {
        answer_error(r, EINVAL, "usage: lookups_send GAP_MS ZERO ONE BITS");
        return;
    }
    uint64_t began = now_ns();
    for (; *bits; bits++) {
        for (unsigned long i = 0; i < calls[*bits - '0']; i++) {
            long rc = hypercall(HYPERVISOR_xen_version, XENVER_extraversion, POINTER(answer), 0, 0,
                                0);
            if (rc < 0 && rc != -EACCES && rc != -EPERM) { /* a refusal was a check as well */
                answer_rc(r, rc, "XENVER_extraversion");
                return;
            }
        }
        rest_until(now_ns() + gap * 1000000u);
    }
    put_number(r, "ns", (long long)(now_ns() - began));
    answer_ok(r);
}
