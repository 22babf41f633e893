/* Answers as JSON objects, one per line, each closed by a CRC-32 of its own
 * bytes: kernel messages share the console and may cut into a line. */
#include "probe.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

unsigned long last_handle;

static const struct {
    int number;
    const char *name;
} errno_names[] = {
    {EPERM, "EPERM"},   {ENOENT, "ENOENT"}, {ESRCH, "ESRCH"},   {EIO, "EIO"},
    {ENXIO, "ENXIO"},   {E2BIG, "E2BIG"},   {EBADF, "EBADF"},   {EAGAIN, "EAGAIN"},
    {ENOMEM, "ENOMEM"}, {EACCES, "EACCES"}, {EFAULT, "EFAULT"}, {EBUSY, "EBUSY"},
    {EEXIST, "EEXIST"}, {ENODEV, "ENODEV"}, {EINVAL, "EINVAL"}, {ENOSPC, "ENOSPC"},
    {ENOSYS, "ENOSYS"}, {ENOTTY, "ENOTTY"}, {ERANGE, "ERANGE"}, {EMSGSIZE, "EMSGSIZE"},
    {EOPNOTSUPP, "EOPNOTSUPP"}, {ECONNREFUSED, "ECONNREFUSED"}, {ETIMEDOUT, "ETIMEDOUT"},
    {EALREADY, "EALREADY"},
};

static const char *errno_name(int error)
{
    for (size_t i = 0; i < sizeof errno_names / sizeof *errno_names; i++)
        if (errno_names[i].number == error)
            return errno_names[i].name;
    return "other";
}

__attribute__((format(printf, 2, 3))) static void add(struct reply *r, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    size_t room = sizeof r->text - r->used;
    int length = vsnprintf(r->text + r->used, room, format, list);
    va_end(list);
    if (length > 0)
        r->used += (size_t)length < room ? (size_t)length : room - 1;
}

/* A JSON string; bytes outside printable ASCII are written as \u00XX. */
static void add_string(struct reply *r, const char *value)
{
    add(r, "\"");
    for (const unsigned char *p = (const unsigned char *)value; *p; p++) {
        if (*p == '"' || *p == '\\')
            add(r, "\\%c", *p);
        else if (*p < 0x20 || *p > 0x7e)
            add(r, "\\u%04x", *p);
        else
            add(r, "%c", *p);
    }
    add(r, "\"");
}

void reply_begin(struct reply *r, unsigned long long id, const char *op)
{
    r->used = 0;
    r->outcome = 2;
    add(r, "{\"id\":%llu,\"op\":", id);
    add_string(r, op);
}

void put_text(struct reply *r, const char *name, const char *value)
{
    add(r, ",\"%s\":", name);
    add_string(r, value);
}

void put_number(struct reply *r, const char *name, long long value)
{
    add(r, ",\"%s\":%lld", name, value);
}

void put_handle(struct reply *r, const char *name, unsigned long value)
{
    last_handle = value;
    put_number(r, name, (long long)value);
}

void put_errno(struct reply *r, const char *prefix, int error)
{
    add(r, ",\"%serrno\":%d,\"%serrno_name\":\"%s\"", prefix, error, prefix, errno_name(error));
}

void answer_ok(struct reply *r)
{
    r->outcome = 0;
    put_text(r, "result", "ok");
}

void answer_denied(struct reply *r, int error, const char *detail)
{
    r->outcome = 1;
    put_text(r, "result", "denied");
    put_errno(r, "", error);
    put_text(r, "detail", detail);
}

void answer_error(struct reply *r, int error, const char *detail)
{
    r->outcome = 2;
    put_text(r, "result", "error");
    put_errno(r, "", error);
    put_text(r, "detail", detail);
}

/* For operations in which the hypervisor's own return code comes through:
 * there EACCES is FLASK and nothing else. */
void answer_rc(struct reply *r, long rc, const char *step)
{
    char detail[160];
    if (rc >= 0) {
        answer_ok(r);
        return;
    }
    snprintf(detail, sizeof detail, "%s: %s", step, strerror((int)-rc));
    if (rc == -EACCES)
        answer_denied(r, EACCES, detail);
    else
        answer_error(r, (int)-rc, detail);
}

static uint32_t crc32(const char *data, size_t length)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < length; i++) {
        crc ^= (unsigned char)data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0xedb88320u & -(crc & 1));
    }
    return ~crc;
}

void reply_end(struct reply *r)
{
    size_t reserve = sizeof r->text - 32;
    if (r->used > reserve) /* cannot happen with TEXT_MAX texts; then the CRC tells */
        r->used = reserve;
    uint32_t crc = crc32(r->text, r->used);
    add(r, ",\"crc\":\"%08x\"}\n", crc);
}

const char *arg_text(const struct request *q, int index)
{
    return index < q->count ? q->words[index] : "";
}

bool arg_number(const struct request *q, int index, unsigned long *value)
{
    char *end;
    const char *word = arg_text(q, index);
    if (strcmp(word, "@") == 0) {
        *value = last_handle;
        return true;
    }
    if (*word < '0' || *word > '9')
        return false;
    errno = 0;
    *value = strtoul(word, &end, 0);
    return errno == 0 && *end == '\0';
}
