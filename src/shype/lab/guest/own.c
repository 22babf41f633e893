/* The guest's own grant table, as a kernel of ill will would use it: what the
 * hypervisor writes into its entries is read, and entries are written that
 * Linux would not write.  PV only: there a process can map the table, whose
 * frames the hypervisor names. */
#define _GNU_SOURCE
#include "probe.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define GNTTABOP_setup_table 2
#define GNTTABOP_copy 5
#define GNTTABOP_get_version 10
#define FRAMES_MAX 64u
#define COPY_BOTH 3 /* source and destination are both grant references */
#define GTF_reading 8u
#define GTF_writing 16u
#define GTF_transitive 3u
#define GTF_type_mask 3u

struct setup_table {
    uint16_t dom;
    uint32_t count;
    int16_t status;
    uint64_t frames;
};
struct get_version {
    uint16_t dom, pad;
    uint32_t version;
};
struct privcmd_mmapbatch {
    uint32_t count;
    uint16_t domid;
    uint64_t address;
    const uint64_t *frames;
    int *errors;
};
#define PRIVCMD_MMAPBATCH _IOC(_IOC_NONE, 'P', 4, sizeof(struct privcmd_mmapbatch))

struct gntdev_map {
    uint32_t count, pad;
    uint64_t index;
    uint32_t domid, ref;
};
#define GNTDEV_MAP _IOC(_IOC_NONE, 'G', 0, sizeof(struct gntdev_map))

struct copy_end {
    uint64_t ref;
    uint16_t domid, offset;
};
struct gnttab_copy {
    struct copy_end source, dest;
    uint16_t length, flags;
    int16_t status;
};

static struct {
    char *page[FRAMES_MAX];
    unsigned version; /* 1 or 2: 8 or 16 bytes per entry */
} table;

static bool known_version(struct reply *r)
{
    static struct get_version ask;
    ask = (struct get_version){.dom = DOMID_SELF};
    long rc = hypercall(HYPERVISOR_grant_table_op, GNTTABOP_get_version, POINTER(&ask), 1, 0, 0);
    if (rc < 0)
        answer_rc(r, rc, "GNTTABOP_get_version");
    table.version = ask.version;
    return rc >= 0;
}

/* The entry GREF in the shared table itself. */
static volatile char *entry(unsigned long gref, struct reply *r)
{
    static struct setup_table ask;
    static uint64_t frames[FRAMES_MAX];
    if (!is_pv()) {
        answer_error(r, EOPNOTSUPP, "only a PV guest's process can map the guest's grant table");
        return NULL;
    }
    if (!table.version && !known_version(r))
        return NULL;
    unsigned size = table.version == 2 ? 16 : 8;
    unsigned long number = gref / (PAGE / size);
    if (number >= FRAMES_MAX) {
        answer_error(r, ERANGE, "this grant reference is beyond the part of the table looked at");
        return NULL;
    }
    if (!table.page[number]) {
        ask = (struct setup_table){
            .dom = DOMID_SELF, .count = (uint32_t)number + 1, .frames = POINTER(frames)};
        long rc = hypercall(HYPERVISOR_grant_table_op, GNTTABOP_setup_table, POINTER(&ask), 1, 0,
                            0);
        if (rc < 0 || ask.status != 0) {
            answer_error(r, rc < 0 ? (int)-rc : EINVAL, "GNTTABOP_setup_table");
            return NULL;
        }
        int fd = open_device("/dev/xen/privcmd"), error = 0;
        char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        struct privcmd_mmapbatch batch = {1, DOMID_SELF, POINTER(page), &frames[number], &error};
        if (fd < 0 || page == MAP_FAILED || ioctl(fd, PRIVCMD_MMAPBATCH, &batch) < 0 || error) {
            answer_error(r, error ? -error : errno, "map a frame of the guest's own grant table");
            return NULL;
        }
        close(fd);
        table.page[number] = page;
    }
    return table.page[number] + gref % (PAGE / size) * size;
}

static unsigned flags_at(volatile char *at)
{
    return *(volatile uint16_t *)at;
}

/* Version 2 keeps the hypervisor's bits elsewhere: these operations want version 1. */
static volatile char *entry_v1(unsigned long gref, struct reply *r)
{
    volatile char *at = entry(gref, r);
    if (at && table.version != 1) {
        answer_error(r, EOPNOTSUPP, "the status bits are in the entry in version 1 only");
        return NULL;
    }
    return at;
}

/* grant_flags GREF: what the hypervisor tells the granter of its grant. */
void op_grant_flags(const struct request *q, struct reply *r)
{
    unsigned long gref;
    volatile char *at;
    if (!arg_number(q, 0, &gref)) {
        answer_error(r, EINVAL, "usage: grant_flags GREF");
        return;
    }
    if (!(at = entry_v1(gref, r)))
        return;
    put_number(r, "flags", flags_at(at));
    put_number(r, "reading", (flags_at(at) & GTF_reading) != 0);
    put_number(r, "writing", (flags_at(at) & GTF_writing) != 0);
    put_number(r, "peer", *(volatile uint16_t *)(at + 2));
    answer_ok(r);
}

/* grant_transit GREF DOMID ITS_GREF: turn GREF, offered by us, into a transitive
 * grant of the page that DOMID offers us as ITS_GREF. */
void op_grant_transit(const struct request *q, struct reply *r)
{
    unsigned long gref, domid, theirs;
    volatile char *at;
    if (!arg_number(q, 0, &gref) || !arg_number(q, 1, &domid) || !arg_number(q, 2, &theirs)) {
        answer_error(r, EINVAL, "usage: grant_transit GREF DOMID ITS_GREF");
        return;
    }
    if (!(at = entry(gref, r)))
        return;
    if (table.version != 2) {
        answer_error(r, EOPNOTSUPP, "transitive grants need grant_table.version=2 in this guest");
        return;
    }
    unsigned flags = flags_at(at);
    *(volatile uint16_t *)at = 0;
    __sync_synchronize();
    *(volatile uint16_t *)(at + 4) = (uint16_t)domid;
    *(volatile uint16_t *)(at + 6) = 0;
    *(volatile uint32_t *)(at + 8) = (uint32_t)theirs;
    __sync_synchronize();
    *(volatile uint16_t *)at = (uint16_t)((flags & ~GTF_type_mask) | GTF_transitive);
    put_number(r, "flags", flags_at(at));
    answer_ok(r);
}

/* What a page must hold for grant_compose: any text can be pieced together from it. */
static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz0123456789.-";

/* grant_compose FROM FROM_GREF TO TO_GREF TEXT: bring TEXT into a page of TO, letter by
 * letter, by copies out of a page of FROM that holds the alphabet.  Both pages are granted
 * to us, and none of ours is touched. */
void op_grant_compose(const struct request *q, struct reply *r)
{
    static struct gnttab_copy ops[TEXT_MAX];
    unsigned long from, from_gref, to, to_gref;
    const char *text = arg_text(q, 4);
    size_t length = strlen(text);
    if (!arg_number(q, 0, &from) || !arg_number(q, 1, &from_gref) || !arg_number(q, 2, &to) ||
        !arg_number(q, 3, &to_gref) || length == 0 || length > TEXT_MAX ||
        text[strspn(text, alphabet)]) {
        answer_error(r, EINVAL, "usage: grant_compose FROM FROM_GREF TO TO_GREF TEXT (a-z 0-9 . -)");
        return;
    }
    for (size_t i = 0; i < length; i++)
        ops[i] = (struct gnttab_copy){
            .source = {from_gref, (uint16_t)from, (uint16_t)(strchr(alphabet, text[i]) - alphabet)},
            .dest = {to_gref, (uint16_t)to, (uint16_t)(WRITTEN_AT + i)},
            .length = 1, .flags = COPY_BOTH};
    uint64_t began = now_ns();
    long rc = hypercall(HYPERVISOR_grant_table_op, GNTTABOP_copy, POINTER(ops), length, 0, 0);
    put_number(r, "ns", (long long)(now_ns() - began));
    put_number(r, "status", ops[0].status);
    if (rc < 0) {
        answer_rc(r, rc, "GNTTABOP_copy");
        return;
    }
    for (size_t i = 0; i < length; i++)
        if (ops[i].status != 0) {
            const char *name = grant_status_name(ops[i].status);
            if (ops[i].status == -8)
                answer_denied(r, EACCES, name);
            else
                answer_error(r, EINVAL, name);
            return;
        }
    answer_ok(r);
}

static struct raw_map kept = {.status = -1};

/* grant_keep PEER GREF: map it and leave it mapped.  grant_kept: what is there now. */
void op_grant_keep(const struct request *q, struct reply *r)
{
    unsigned long peer, gref;
    if (!arg_number(q, 0, &peer) || !arg_number(q, 1, &gref)) {
        answer_error(r, EINVAL, "usage: grant_keep PEER GREF");
        return;
    }
    if (!is_pv()) {
        answer_error(r, EOPNOTSUPP, "kept at a page-table entry of a PV guest only");
        return;
    }
    int status = grant_map_raw((unsigned)peer, (unsigned)gref, true, &kept);
    put_number(r, "status", status);
    if (status == -8)
        answer_denied(r, EACCES, grant_status_name(status));
    else if (status != 0)
        answer_error(r, EINVAL, grant_status_name(status));
    else
        answer_ok(r);
}

void op_grant_kept(const struct request *q, struct reply *r)
{
    char text[TEXT_MAX + 1];
    (void)q;
    if (kept.status != 0) {
        answer_error(r, ENOENT, "nothing is kept mapped");
        return;
    }
    memcpy(text, (const char *)(uintptr_t)kept.host, TEXT_MAX);
    text[TEXT_MAX] = '\0';
    put_text(r, "text", text);
    answer_ok(r);
}

static void doze(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

static bool bits_ok(const char *bits)
{
    return *bits && bits[strspn(bits, "01")] == '\0';
}

#define SIGNAL_LIMIT (15ull * 1000000000u)

/* grant_listen ZERO ONE ACK COUNT: three grants of ours to the sender, read-only. A bit is
 * told by which of ZERO and ONE the hypervisor marks as read; ACK's page counts what was
 * seen, so that the sender needs no clock. */
void op_grant_listen(const struct request *q, struct reply *r)
{
    unsigned long gref[2], ack, count;
    static char bits[TEXT_MAX + 1];
    volatile char *at[2];
    if (!arg_number(q, 0, &gref[0]) || !arg_number(q, 1, &gref[1]) || !arg_number(q, 2, &ack) ||
        !arg_number(q, 3, &count) || count > TEXT_MAX) {
        answer_error(r, EINVAL, "usage: grant_listen ZERO ONE ACK COUNT");
        return;
    }
    volatile uint32_t *seen = (volatile uint32_t *)offered_page((unsigned)ack);
    if (!seen) {
        answer_error(r, ENOENT, "ACK is not offered here");
        return;
    }
    if (!(at[0] = entry_v1(gref[0], r)) || !(at[1] = entry_v1(gref[1], r)))
        return;
    uint64_t began = now_ns(), first = 0;
    unsigned long got = 0;
    *seen = 0;
    while (got < count && now_ns() - began < SIGNAL_LIMIT) {
        unsigned state = (flags_at(at[0]) & GTF_reading ? 1 : 0) |
                         (flags_at(at[1]) & GTF_reading ? 2 : 0);
        if (*seen % 2 == 0 && (state == 1 || state == 2)) {
            if (!got)
                first = now_ns();
            bits[got++] = state == 2 ? '1' : '0';
            ++*seen;
        } else if (*seen % 2 == 1 && state == 0) {
            ++*seen;
        } else {
            doze();
        }
    }
    bits[got] = '\0';
    put_text(r, "bits", bits);
    put_number(r, "ns", (long long)(now_ns() - first));
    answer_ok(r);
}

/* The peer's page, mapped for reading for as long as the probe lives; NULL with errno. */
static const volatile uint32_t *view(unsigned peer, unsigned gref)
{
    struct gntdev_map map = {.count = 1, .domid = peer, .ref = gref};
    int fd = open_device("/dev/xen/gntdev");
    if (fd < 0 || ioctl(fd, GNTDEV_MAP, &map) < 0)
        return NULL;
    void *page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, (off_t)map.index);
    return page == MAP_FAILED ? NULL : page; /* the open device is the mapping's */
}

/* Wait until the listener has counted to at least WANTED. */
static bool counted(const volatile uint32_t *seen, uint32_t wanted, uint64_t end)
{
    while (*seen < wanted && now_ns() < end)
        doze();
    return *seen >= wanted;
}

/* grant_signal PEER ZERO ONE ACK BITS: the other side of grant_listen.  Everything we do
 * with PEER's pages is to read them. */
void op_grant_signal(const struct request *q, struct reply *r)
{
    unsigned long peer, gref[2], ack;
    const char *bits = arg_text(q, 4);
    if (!arg_number(q, 0, &peer) || !arg_number(q, 1, &gref[0]) || !arg_number(q, 2, &gref[1]) ||
        !arg_number(q, 3, &ack) || !bits_ok(bits)) {
        answer_error(r, EINVAL, "usage: grant_signal PEER ZERO ONE ACK BITS");
        return;
    }
    const volatile uint32_t *seen = view((unsigned)peer, (unsigned)ack);
    if (!seen) {
        answer_error(r, errno, "map the listener's counter");
        return;
    }
    uint64_t end = now_ns() + SIGNAL_LIMIT;
    uint32_t step = 0;
    for (; *bits; bits++) {
        struct raw_map map;
        int status = grant_map_raw((unsigned)peer, (unsigned)gref[*bits - '0'], true, &map);
        if (status != 0) {
            answer_error(r, status == -8 ? EACCES : EINVAL, grant_status_name(status));
            return;
        }
        bool heard = counted(seen, ++step, end);
        grant_unmap_raw(&map);
        /* the last release need not be waited for: the listener is gone by then */
        if (!heard || (bits[1] && !counted(seen, ++step, end))) {
            put_number(r, "step", step);
            answer_error(r, ETIMEDOUT, "the listener does not count");
            return;
        }
    }
    answer_ok(r);
}
