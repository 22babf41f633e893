/* Who am I, and attempts on another domain that only dom0 may make. */
#define _GNU_SOURCE
#include "probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#define XS_READ 2u
#define SCHEDOP_shutdown 2u

struct xenstore_header {
    uint32_t type, request, transaction, length;
};

/* This domain's id from xenstore, or a negative errno. */
static long own_domid(void)
{
    struct {
        struct xenstore_header header;
        char path[8];
    } ask = {{XS_READ, 1, 0, 6}, "domid"};
    struct xenstore_header header;
    char value[32] = "";
    int fd = open_device("/dev/xen/xenbus");
    if (fd < 0)
        return fd;
    long domid = -EIO;
    ssize_t length = (ssize_t)(sizeof ask.header + ask.header.length);
    if (write(fd, &ask, (size_t)length) == length &&
        read(fd, &header, sizeof header) == (ssize_t)sizeof header &&
        header.length < sizeof value && read(fd, value, header.length) > 0)
        domid = header.type == XS_READ ? strtol(value, NULL, 10) : -ENOENT;
    close(fd);
    return domid;
}

void op_ping(const struct request *q, struct reply *r)
{
    (void)q;
    put_number(r, "version", PROBE_VERSION);
    put_number(r, "pid", getpid());
    answer_ok(r);
}

/* info */
void op_info(const struct request *q, struct reply *r)
{
    static const char *const files[][2] = {
        {"hypervisor", "/sys/hypervisor/type"},
        {"guest_type", "/sys/hypervisor/guest_type"},
        {"xen_major", "/sys/hypervisor/version/major"},
        {"xen_minor", "/sys/hypervisor/version/minor"},
        {"xen_extra", "/sys/hypervisor/version/extra"},
        {"uuid", "/sys/hypervisor/uuid"},
        {"uptime", "/proc/uptime"},
    };
    char line[128];
    struct utsname kernel;
    (void)q;
    long domid = own_domid();
    if (domid >= 0)
        put_number(r, "domid", domid);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (file_line(files[i][1], line, sizeof line) == 0)
            put_text(r, files[i][0], line);
    if (uname(&kernel) == 0)
        put_text(r, "kernel", kernel.release);
    long version = hypercall(HYPERVISOR_xen_version, 0, 0, 0, 0, 0);
    put_number(r, "hypercalls", version >= 0);
    if (version < 0)
        put_errno(r, "hypercall_", (int)-version);
    answer_ok(r);
}

/* end REASON: this domain ends, as it would after a poweroff (0), a reboot (1), a crash (3) or a
 * request for a soft reset (5). Nobody hears an answer, unless it does not. */
void op_end(const struct request *q, struct reply *r)
{
    static struct {
        uint32_t reason;
    } how;
    unsigned long reason;
    if (!arg_number(q, 0, &reason)) {
        answer_error(r, EINVAL, "usage: end REASON");
        return;
    }
    how.reason = (uint32_t)reason;
    answer_rc(r, hypercall(HYPERVISOR_sched_op, SCHEDOP_shutdown, POINTER(&how), 0, 0, 0),
              "SCHEDOP_shutdown");
}

struct privcmd_mmapbatch {
    uint32_t count;
    uint16_t domid;
    uint64_t address;
    const uint64_t *frames;
    int *errors;
};
#define PRIVCMD_MMAPBATCH _IOC(_IOC_NONE, 'P', 4, sizeof(struct privcmd_mmapbatch))

/* foreign_map PEER GFN: map a page that was not granted.  The per-frame error
 * is the hypervisor's own (the ioctl's may be Linux').  To a PVH guest Xen
 * answers EPERM before it asks FLASK: only the hardware domain may
 * (xen/arch/x86/mm/p2m.c, p2m_add_foreign). */
void op_foreign_map(const struct request *q, struct reply *r)
{
    unsigned long peer, gfn;
    if (!arg_number(q, 0, &peer) || !arg_number(q, 1, &gfn)) {
        answer_error(r, EINVAL, "usage: foreign_map PEER GFN");
        return;
    }
    int fd = open_device("/dev/xen/privcmd");
    if (fd < 0) {
        answer_error(r, -fd, "open /dev/xen/privcmd");
        return;
    }
    void *page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    uint64_t frame = gfn;
    int error = 0;
    long rc = page == MAP_FAILED ? -errno : 0;
    if (rc == 0) {
        struct privcmd_mmapbatch batch = {1, (uint16_t)peer, POINTER(page), &frame, &error};
        if (ioctl(fd, PRIVCMD_MMAPBATCH, &batch) < 0)
            rc = -errno;
        if (error != 0)
            rc = error;
        if (rc >= 0)
            put_number(r, "first_byte", *(volatile unsigned char *)page);
        munmap(page, PAGE);
    }
    close(fd);
    put_number(r, "frame_error", error);
    if (error == -EPERM)
        answer_denied(r, EPERM, "Xen lets only the hardware domain map foreign frames");
    else
        answer_rc(r, rc, "IOCTL_PRIVCMD_MMAPBATCH_V2");
}

#define DOMCTL_unpausedomain 4u
#define DOMCTL_pausedomain 3u
#define DOMCTL_VERSION 0x15u /* Xen 4.17 */

/* control PEER: pause another domain (and let it go on).  A wrong interface
 * version also answers EACCES, so the answer counts with a control experiment:
 * the same operation in dom0 must succeed. */
void op_control(const struct request *q, struct reply *r)
{
    static struct {
        uint32_t command, version;
        uint16_t domid, pad[3];
        uint8_t room[128];
    } op;
    unsigned long peer;
    if (!arg_number(q, 0, &peer)) {
        answer_error(r, EINVAL, "usage: control PEER");
        return;
    }
    memset(&op, 0, sizeof op);
    op.command = DOMCTL_pausedomain;
    op.version = DOMCTL_VERSION;
    op.domid = (uint16_t)peer;
    put_number(r, "interface_version", DOMCTL_VERSION);
    long rc = hypercall(HYPERVISOR_domctl, POINTER(&op), 0, 0, 0, 0);
    if (rc >= 0) {
        op.command = DOMCTL_unpausedomain;
        rc = hypercall(HYPERVISOR_domctl, POINTER(&op), 0, 0, 0, 0);
    }
    answer_rc(r, rc, "XEN_DOMCTL_pausedomain");
}
