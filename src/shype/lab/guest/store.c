/* XenStore as a guest sees it: raw requests through Linux' xenbus device, transactions and
 * watches included. Message types: xen/include/public/io/xs_wire.h. */
#define _GNU_SOURCE
#include "probe.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XS_CONTROL 0
#define XS_DIRECTORY 1
#define XS_READ 2
#define XS_GET_PERMS 3
#define XS_WATCH 4
#define XS_TRANSACTION_START 6
#define XS_TRANSACTION_END 7
#define XS_WRITE 11
#define XS_MKDIR 12
#define XS_RM 13
#define XS_SET_PERMS 14
#define XS_WATCH_EVENT 15
#define XS_ERROR 16
#define XS_DIRECTORY_PART 22
#define PAYLOAD 4096u

static struct {
    uint32_t type, id, transaction, length;
} header;
static char data[PAYLOAD + 1];
static char seen[2048]; /* paths of the watch events that came, with blanks between */
static uint32_t transaction;

static int device(void)
{
    static int handle = -1;
    if (handle < 0)
        handle = open("/dev/xen/xenbus", O_RDWR | O_CLOEXEC);
    if (handle < 0)
        handle = open("/proc/xen/xenbus", O_RDWR | O_CLOEXEC);
    return handle;
}

static int take(void *to, size_t length, int wait_ms)
{
    char *at = to;
    while (length > 0) {
        struct pollfd ready = {.fd = device(), .events = POLLIN};
        if (poll(&ready, 1, wait_ms) <= 0)
            return -ETIMEDOUT;
        ssize_t got = read(device(), at, length);
        if (got <= 0)
            return got < 0 ? -errno : -EIO;
        at += got;
        length -= (size_t)got;
    }
    return 0;
}

/* One message into header and data; a watch event is put aside. */
static int message(int wait_ms)
{
    int rc = take(&header, sizeof header, wait_ms);
    if (rc == 0 && header.length > PAYLOAD)
        return -EMSGSIZE;
    if (rc == 0)
        rc = take(data, header.length, wait_ms);
    if (rc != 0)
        return rc;
    data[header.length] = '\0';
    size_t used = strlen(seen);
    if (header.type == XS_WATCH_EVENT)
        snprintf(seen + used, sizeof seen - used, "%s%.256s", used ? " " : "", data);
    return 0;
}

/* Send one request and wait for its answer, which is then in data. */
static int request(uint32_t type, uint32_t in, const char *payload, size_t length)
{
    static char all[sizeof header + PAYLOAD];
    if (device() < 0)
        return -errno;
    if (length > PAYLOAD)
        return -EMSGSIZE;
    memcpy(all, (uint32_t[4]){type, 1, in, (uint32_t)length}, sizeof header);
    memcpy(all + sizeof header, payload, length);
    if (write(device(), all, sizeof header + length) != (ssize_t)(sizeof header + length))
        return -errno;
    do {
        int rc = message(10000);
        if (rc != 0)
            return rc;
    } while (header.type == XS_WATCH_EVENT);
    return 0;
}

static int number_of(const char *name)
{
    static const struct {
        const char *name;
        int number;
    } known[] = {{"EACCES", EACCES}, {"ENOENT", ENOENT}, {"EAGAIN", EAGAIN}, {"ENOSPC", ENOSPC},
                 {"EINVAL", EINVAL}, {"EEXIST", EEXIST}, {"ENOSYS", ENOSYS}, {"EPERM", EPERM},
                 {"EBUSY", EBUSY},   {"EISDIR", EISDIR}, {"E2BIG", E2BIG},   {"EIO", EIO},
                 {"EROFS", EROFS}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0)
            return known[i].number;
    return EPROTO;
}

/* What xenstored said; zeros between words become '|'. */
static void answered(struct reply *r, int rc, const char *step)
{
    char text[64];
    if (rc != 0) {
        snprintf(text, sizeof text, "%s: no answer", step);
        answer_error(r, -rc, text);
        return;
    }
    if (header.type == XS_ERROR) {
        snprintf(text, sizeof text, "%s: %.40s", step, data);
        int error = number_of(data);
        if (error == EACCES || error == EPERM || error == ENOSPC)
            answer_denied(r, error, text);
        else
            answer_error(r, error, text);
        return;
    }
    size_t length = header.length < 512 ? header.length : 512;
    for (size_t i = 0; i < length; i++)
        if (data[i] == '\0')
            data[i] = '|';
    data[length] = '\0';
    put_text(r, "value", data);
    answer_ok(r);
}

/* xs OPERATION PATH WORDS...: read, list, perms, write PATH VALUE, mkdir, rm, part PATH OFFSET,
 * set_perms PATH ENTRIES..., watch PATH TOKEN, control WORDS... In a transaction if one is open. */
void op_xs(const struct request *q, struct reply *r)
{
    static const struct {
        const char *name;
        uint32_t type;
    } kinds[] = {{"read", XS_READ},   {"list", XS_DIRECTORY}, {"perms", XS_GET_PERMS},
                 {"mkdir", XS_MKDIR}, {"rm", XS_RM},          {"set_perms", XS_SET_PERMS},
                 {"write", XS_WRITE}, {"watch", XS_WATCH},    {"part", XS_DIRECTORY_PART},
                 {"control", XS_CONTROL}};
    static char payload[PAYLOAD];
    size_t used = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].name, arg_text(q, 0)) != 0)
            continue;
        for (int word = 1; word < q->count; word++) {
            size_t length = strlen(q->words[word]) + 1;
            if (kinds[i].type == XS_WRITE && word > 1)
                length--; /* the value of a node has no end of its own */
            if (used + length > sizeof payload) {
                answer_error(r, EMSGSIZE, "too long");
                return;
            }
            memcpy(payload + used, q->words[word], length);
            used += length;
        }
        uint32_t in = kinds[i].type == XS_WATCH ? 0 : transaction;
        answered(r, request(kinds[i].type, in, payload, used), kinds[i].name);
        return;
    }
    answer_error(r, EINVAL, "usage: xs OPERATION PATH WORDS...");
}

/* xs_begin: what follows is in a transaction. */
void op_xs_begin(const struct request *q, struct reply *r)
{
    (void)q;
    int rc = request(XS_TRANSACTION_START, 0, "", 1);
    if (rc == 0 && header.type != XS_ERROR)
        transaction = (uint32_t)strtoul(data, NULL, 10);
    answered(r, rc, "begin");
}

/* xs_end T|F: commit or give up. EAGAIN: something that it used has changed. */
void op_xs_end(const struct request *q, struct reply *r)
{
    uint32_t in = transaction;
    transaction = 0;
    answered(r, request(XS_TRANSACTION_END, in, arg_text(q, 0), 2), "end");
}

/* xs_events MS: the paths of the watch events so far, those of the next MS milliseconds too. */
void op_xs_events(const struct request *q, struct reply *r)
{
    unsigned long ms = 0;
    arg_number(q, 0, &ms);
    uint64_t until = now_ns() + ms * 1000000u;
    while (device() >= 0 && now_ns() < until)
        if (message((int)((until - now_ns()) / 1000000u) + 1) != 0)
            break;
    put_text(r, "events", seen);
    seen[0] = '\0';
    answer_ok(r);
}

/* xs_burst COUNT PATH: write to a node COUNT times. */
void op_xs_burst(const struct request *q, struct reply *r)
{
    char payload[256];
    unsigned long count;
    if (!arg_number(q, 0, &count)) {
        answer_error(r, EINVAL, "usage: xs_burst COUNT PATH");
        return;
    }
    size_t length = (size_t)snprintf(payload, sizeof payload, "%s%c%s", arg_text(q, 1), 0, "x");
    for (int rc = 0; count > 0; count--) {
        rc = request(XS_WRITE, 0, payload, length);
        if (rc != 0 || header.type == XS_ERROR) {
            answered(r, rc, "write");
            return;
        }
    }
    answer_ok(r);
}
