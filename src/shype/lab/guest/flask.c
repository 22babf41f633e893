/* FLASK operations (hypercall 27): what any domain may ask, and attempts to
 * change the policy, which only the administration may make. */
#include "probe.h"

#include <string.h>

#define FLASK_LOAD 1
#define FLASK_GETENFORCE 2
#define FLASK_SETENFORCE 3
#define FLASK_GETBOOL 11
#define FLASK_SETBOOL 12

struct flask_op {
    uint32_t command, version;
    union {
        struct {
            uint64_t buffer;
            uint32_t size;
        } load;
        uint32_t enforcing;
        struct {
            int32_t id;
            uint8_t enforcing, pending, new_value, commit;
            uint32_t size;
            uint64_t name;
        } boolean;
        char room[256];
    } u;
};
static struct flask_op op;
static char name[TEXT_MAX + 1];

static long flask(uint32_t command)
{
    op.command = command;
    op.version = 1;
    return hypercall(HYPERVISOR_xsm_op, POINTER(&op), 0, 0, 0, 0);
}

static void name_boolean(const char *text)
{
    memset(&op, 0, sizeof op);
    memset(name, 0, sizeof name);
    strncpy(name, text, TEXT_MAX);
    op.u.boolean.id = -1;
    op.u.boolean.size = (uint32_t)strlen(name);
    op.u.boolean.name = POINTER(name);
}

/* bool_get NAME */
void op_bool_get(const struct request *q, struct reply *r)
{
    if (q->count != 1) {
        answer_error(r, EINVAL, "usage: bool_get NAME");
        return;
    }
    name_boolean(q->words[0]);
    long rc = flask(FLASK_GETBOOL);
    if (rc >= 0) {
        put_number(r, "value", op.u.boolean.enforcing);
        put_number(r, "pending", op.u.boolean.pending);
    }
    answer_rc(r, rc, "FLASK_GETBOOL");
}

/* bool_set NAME 0|1 */
void op_bool_set(const struct request *q, struct reply *r)
{
    unsigned long value;
    if (q->count != 2 || !arg_number(q, 1, &value) || value > 1) {
        answer_error(r, EINVAL, "usage: bool_set NAME 0|1");
        return;
    }
    name_boolean(q->words[0]);
    op.u.boolean.new_value = (uint8_t)value;
    op.u.boolean.commit = 1;
    answer_rc(r, flask(FLASK_SETBOOL), "FLASK_SETBOOL");
}

/* policy_load: offers 16 bytes that are no policy; EINVAL would mean that the
 * hypervisor looked at them, so that a real policy would have been taken. */
void op_policy_load(const struct request *q, struct reply *r)
{
    static char junk[16] = "not a policy";
    (void)q;
    memset(&op, 0, sizeof op);
    op.u.load.buffer = POINTER(junk);
    op.u.load.size = sizeof junk;
    answer_rc(r, flask(FLASK_LOAD), "FLASK_LOAD");
}

/* enforce_set 0|1.  Xen does not check a request for the mode that it is in
 * already, it just returns 0: such a request would prove nothing, so it is an
 * error here and not made. */
void op_enforce_set(const struct request *q, struct reply *r)
{
    unsigned long value;
    if (q->count != 1 || !arg_number(q, 0, &value) || value > 1) {
        answer_error(r, EINVAL, "usage: enforce_set 0|1");
        return;
    }
    memset(&op, 0, sizeof op);
    long mode = flask(FLASK_GETENFORCE);
    if (mode < 0) {
        answer_error(r, (int)-mode, "FLASK_GETENFORCE");
        return;
    }
    if ((unsigned long)mode == value) {
        answer_error(r, EALREADY, "the hypervisor is in this mode and would not check the request");
        return;
    }
    memset(&op, 0, sizeof op);
    op.u.enforcing = (uint32_t)value;
    answer_rc(r, flask(FLASK_SETENFORCE), "FLASK_SETENFORCE");
}
