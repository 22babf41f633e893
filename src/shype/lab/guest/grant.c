/* Grants: pages offered by /dev/xen/gntalloc, used through /dev/xen/gntdev.
 *
 * gntdev turns every failed map into EINVAL from mmap(), whatever the
 * hypervisor said.  After such a failure the same map is tried by the raw
 * hypercall, whose GNTST_permission_denied is certain.  Copies need no such
 * second step: their status comes through.
 */
#define _GNU_SOURCE
#include "probe.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

struct gntalloc_alloc {
    uint16_t domid, flags;
    uint32_t count;
    uint64_t index;
    uint32_t gref[1];
};
struct gntalloc_dealloc {
    uint64_t index;
    uint32_t count;
};
#define GNTALLOC_ALLOC _IOC(_IOC_NONE, 'G', 5, sizeof(struct gntalloc_alloc))
#define GNTALLOC_DEALLOC _IOC(_IOC_NONE, 'G', 6, sizeof(struct gntalloc_dealloc))
#define GNTALLOC_WRITABLE 1

struct gntdev_map {
    uint32_t count, pad;
    uint64_t index;
    struct {
        uint32_t domid, ref;
    } refs[1];
};
struct gntdev_unmap {
    uint64_t index;
    uint32_t count, pad;
};
struct gntdev_segment {
    union {
        void *virtual;
        struct {
            uint32_t ref;
            uint16_t offset, domid;
        } foreign;
    } source, dest;
    uint16_t length, flags;
    int16_t status;
};
struct gntdev_copy {
    unsigned count;
    struct gntdev_segment *segments;
};
#define GNTDEV_MAP _IOC(_IOC_NONE, 'G', 0, sizeof(struct gntdev_map))
#define GNTDEV_UNMAP _IOC(_IOC_NONE, 'G', 1, sizeof(struct gntdev_unmap))
#define GNTDEV_COPY _IOC(_IOC_NONE, 'G', 8, sizeof(struct gntdev_copy))
#define COPY_SOURCE_GREF 1
#define COPY_DEST_GREF 2

struct gnttab_map {
    uint64_t host;
    uint32_t flags, ref;
    uint16_t dom;
    int16_t status;
    uint32_t handle;
    uint64_t bus;
};
struct gnttab_unmap {
    uint64_t host, bus;
    uint32_t handle;
    int16_t status;
};
#define GNTTABOP_map_grant_ref 0
#define GNTTABOP_unmap_grant_ref 1
#define GNTMAP_host_map 2
#define GNTMAP_readonly 4
#define GNTST_permission_denied (-8)
/* Guest-physical address at which nothing is: PVH maps grants at addresses of
 * the guest's choice.  256 GiB is below every CPU's limit and above all RAM
 * of a lab guest, and far from where Linux itself puts foreign pages. */
#define FREE_GPA 0x4000000000ull

#define OFFERS 256
static struct offer {
    bool used;
    unsigned gref;
    uint64_t index;
    char *page;
} offers[OFFERS];
static int gntalloc = -1, gntdev = -1;

static bool ready(int *device, const char *path, struct reply *r)
{
    if (*device < 0) {
        int fd = open_device(path);
        if (fd < 0) {
            char detail[64];
            snprintf(detail, sizeof detail, "open %s", path);
            answer_error(r, -fd, detail);
            return false;
        }
        *device = fd;
    }
    return true;
}

const char *grant_status_name(int status)
{
    static const char *const names[] = {
        "GNTST_okay",          "GNTST_general_error",   "GNTST_bad_domain",
        "GNTST_bad_gntref",    "GNTST_bad_handle",      "GNTST_bad_virt_addr",
        "GNTST_bad_dev_addr",  "GNTST_no_device_space", "GNTST_permission_denied",
        "GNTST_bad_page",      "GNTST_bad_copy_arg",    "GNTST_address_too_big",
        "GNTST_eagain",        "GNTST_no_space",
    };
    if (status <= 0 && status > -(int)(sizeof names / sizeof *names))
        return names[-status];
    return "hypercall failed";
}

static void answer_status(struct reply *r, int status, const char *step)
{
    char detail[160];
    put_number(r, "status", status);
    put_text(r, "status_name", grant_status_name(status));
    if (status <= -1000)
        snprintf(detail, sizeof detail, "%s: %s", step, strerror(-1000 - status));
    else
        snprintf(detail, sizeof detail, "%s: %s", step, grant_status_name(status));
    if (status == GNTST_permission_denied)
        answer_denied(r, EACCES, detail);
    else
        answer_error(r, status <= -1000 ? -1000 - status : EINVAL, detail);
}

static void copy_text(char *out, const char *page)
{
    memcpy(out, page, TEXT_MAX);
    out[TEXT_MAX] = '\0';
}

/* grant_offer PEER ro|rw TEXT */
void op_grant_offer(const struct request *q, struct reply *r)
{
    unsigned long peer;
    const char *mode = arg_text(q, 1);
    bool writable = strcmp(mode, "rw") == 0;
    if (!arg_number(q, 0, &peer) || (!writable && strcmp(mode, "ro") != 0)) {
        answer_error(r, EINVAL, "usage: grant_offer PEER ro|rw TEXT");
        return;
    }
    struct offer *offer = NULL;
    for (int i = 0; i < OFFERS && !offer; i++)
        if (!offers[i].used)
            offer = &offers[i];
    if (!offer) {
        answer_error(r, ENOSPC, "the probe's table of offered pages is full");
        return;
    }
    if (!ready(&gntalloc, "/dev/xen/gntalloc", r))
        return;
    struct gntalloc_alloc alloc = {
        .domid = (uint16_t)peer, .flags = writable ? GNTALLOC_WRITABLE : 0, .count = 1};
    if (ioctl(gntalloc, GNTALLOC_ALLOC, &alloc) < 0) {
        answer_error(r, errno, "gntalloc");
        return;
    }
    char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, gntalloc, (off_t)alloc.index);
    if (page == MAP_FAILED) {
        struct gntalloc_dealloc dealloc = {alloc.index, 1};
        int error = errno;
        ioctl(gntalloc, GNTALLOC_DEALLOC, &dealloc);
        answer_error(r, error, "mmap of an offered page");
        return;
    }
    memset(page, 0, PAGE);
    strncpy(page, arg_text(q, 2), TEXT_MAX);
    *offer = (struct offer){true, alloc.gref[0], alloc.index, page};
    put_handle(r, "gref", alloc.gref[0]);
    answer_ok(r);
}

static struct offer *offer_of(unsigned long gref)
{
    for (int i = 0; i < OFFERS; i++)
        if (offers[i].used && offers[i].gref == gref)
            return &offers[i];
    return NULL;
}

static struct offer *find(const struct request *q, struct reply *r)
{
    unsigned long gref;
    struct offer *offer = arg_number(q, 0, &gref) ? offer_of(gref) : NULL;
    if (offer)
        return offer;
    answer_error(r, ENOENT, "the argument must be a grant reference that is offered here");
    return NULL;
}

/* The page behind a grant reference that is offered here, or NULL. */
char *offered_page(unsigned gref)
{
    struct offer *offer = offer_of(gref);
    return offer ? offer->page : NULL;
}

/* grant_read GREF: what is in the offered page now. */
void op_grant_read(const struct request *q, struct reply *r)
{
    char text[TEXT_MAX + 1];
    struct offer *offer = find(q, r);
    if (!offer)
        return;
    copy_text(text, offer->page);
    put_text(r, "text", text);
    copy_text(text, offer->page + WRITTEN_AT);
    put_text(r, "written", text);
    answer_ok(r);
}

/* grant_close GREF */
void op_grant_close(const struct request *q, struct reply *r)
{
    struct offer *offer = find(q, r);
    if (!offer)
        return;
    struct gntalloc_dealloc dealloc = {offer->index, 1};
    munmap(offer->page, PAGE);
    offer->used = false;
    answer_rc(r, ioctl(gntalloc, GNTALLOC_DEALLOC, &dealloc) < 0 ? -errno : 0, "gntalloc dealloc");
}

/* Map one page by the hypercall itself.  Returns the GNTST status. */
int grant_map_raw(unsigned peer, unsigned gref, bool readonly, struct raw_map *map)
{
    static struct gnttab_map op;
    static char *window;
    if (is_pv() && !window) {
        /* PV: the address of an empty page-table entry.  The second page keeps the table. */
        window = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (window == MAP_FAILED) {
            window = NULL;
            return map->status = -1000 - ENOMEM;
        }
        if (madvise(window, PAGE, MADV_DONTNEED) < 0)
            return map->status = -1000 - errno;
    }
    op = (struct gnttab_map){
        .host = is_pv() ? POINTER(window) : FREE_GPA,
        .flags = GNTMAP_host_map | (readonly ? GNTMAP_readonly : 0),
        .ref = gref, .dom = (uint16_t)peer};
    long rc = hypercall(HYPERVISOR_grant_table_op, GNTTABOP_map_grant_ref, POINTER(&op), 1, 0, 0);
    map->status = rc < 0 ? (int)(-1000 + rc) : op.status;
    map->host = op.host;
    map->handle = op.handle;
    return map->status;
}

int grant_unmap_raw(const struct raw_map *map)
{
    static struct gnttab_unmap op;
    op = (struct gnttab_unmap){.host = map->host, .handle = map->handle};
    long rc = hypercall(HYPERVISOR_grant_table_op, GNTTABOP_unmap_grant_ref, POINTER(&op), 1, 0, 0);
    return rc < 0 ? (int)(-1000 + rc) : op.status;
}

static void explain_failed_map(struct reply *r, unsigned peer, unsigned gref, bool readonly,
                               int error)
{
    struct raw_map map;
    put_errno(r, "mmap_", error);
    int status = grant_map_raw(peer, gref, readonly, &map);
    if (status != 0) {
        answer_status(r, status, "GNTTABOP_map_grant_ref");
        return;
    }
    grant_unmap_raw(&map);
    answer_error(r, error, "gntdev refused the mapping, but the raw hypercall maps the page");
}

/* grant_map PEER GREF ro|rw [TEXT]: read the page, write TEXT into it, unmap. */
void op_grant_map(const struct request *q, struct reply *r)
{
    unsigned long peer, gref;
    const char *mode = arg_text(q, 2);
    bool readonly = strcmp(mode, "ro") == 0;
    if (!arg_number(q, 0, &peer) || !arg_number(q, 1, &gref) ||
        (!readonly && strcmp(mode, "rw") != 0)) {
        answer_error(r, EINVAL, "usage: grant_map PEER GREF ro|rw [TEXT]");
        return;
    }
    if (!ready(&gntdev, "/dev/xen/gntdev", r))
        return;
    struct gntdev_map map = {.count = 1, .refs = {{(uint32_t)peer, (uint32_t)gref}}};
    if (ioctl(gntdev, GNTDEV_MAP, &map) < 0) {
        answer_error(r, errno, "gntdev");
        return;
    }
    struct gntdev_unmap unmap = {.index = map.index, .count = 1};
    char *page = mmap(NULL, PAGE, readonly ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED, gntdev,
                      (off_t)map.index);
    if (page == MAP_FAILED) {
        int error = errno;
        ioctl(gntdev, GNTDEV_UNMAP, &unmap);
        explain_failed_map(r, (unsigned)peer, (unsigned)gref, readonly, error);
        return;
    }
    char text[TEXT_MAX + 1];
    copy_text(text, page);
    put_text(r, "text", text);
    if (!readonly && q->count > 3)
        strncpy(page + WRITTEN_AT, arg_text(q, 3), TEXT_MAX);
    munmap(page, PAGE);
    if (ioctl(gntdev, GNTDEV_UNMAP, &unmap) < 0)
        put_errno(r, "unmap_", errno);
    answer_ok(r);
}

/* One GNTTABOP_copy.  Returns 0 or a negative errno. */
static int copy_segment(struct gntdev_segment *segment, int *status)
{
    struct gntdev_copy copy = {1, segment};
    if (gntdev < 0) {
        int fd = open_device("/dev/xen/gntdev");
        if (fd < 0)
            return fd;
        gntdev = fd;
    }
    if (ioctl(gntdev, GNTDEV_COPY, &copy) < 0)
        return -errno;
    *status = segment->status;
    return 0;
}

/* One GNTTABOP_copy between the peer's page and ours.  Returns 0 or a negative errno. */
int grant_copy_once(unsigned peer, unsigned gref, bool from, char *page, unsigned offset,
                    unsigned length, int *status)
{
    struct gntdev_segment segment = {.length = (uint16_t)length};
    segment.flags = from ? COPY_SOURCE_GREF : COPY_DEST_GREF;
    *(from ? &segment.dest.virtual : &segment.source.virtual) = page;
    if (from) {
        segment.source.foreign.ref = gref;
        segment.source.foreign.offset = (uint16_t)offset;
        segment.source.foreign.domid = (uint16_t)peer;
    } else {
        segment.dest.foreign.ref = gref;
        segment.dest.foreign.offset = (uint16_t)offset;
        segment.dest.foreign.domid = (uint16_t)peer;
    }
    return copy_segment(&segment, status);
}

/* grant_copy PEER GREF from|to [TEXT] */
void op_grant_copy(const struct request *q, struct reply *r)
{
    unsigned long peer, gref;
    static _Alignas(4096) char page[PAGE];
    int status = 0;
    bool from = strcmp(arg_text(q, 2), "from") == 0;
    if (!arg_number(q, 0, &peer) || !arg_number(q, 1, &gref) ||
        (!from && strcmp(arg_text(q, 2), "to") != 0)) {
        answer_error(r, EINVAL, "usage: grant_copy PEER GREF from|to [TEXT]");
        return;
    }
    memset(page, 0, sizeof page);
    if (!from)
        strncpy(page, arg_text(q, 3), TEXT_MAX);
    int rc = grant_copy_once((unsigned)peer, (unsigned)gref, from, page, from ? 0 : WRITTEN_AT,
                             TEXT_MAX + 1, &status);
    if (rc < 0) {
        answer_error(r, -rc, "gntdev grant copy");
    } else if (status != 0) {
        answer_status(r, status, "GNTTABOP_copy");
    } else {
        page[TEXT_MAX] = '\0';
        if (from)
            put_text(r, "text", page);
        answer_ok(r);
    }
}
