/* Argo: rings registered and messages sent by hypercall 39.  Linux has no
 * driver; the hypervisor wants the ring's guest frame numbers, which a PV
 * guest cannot know: there these operations answer EOPNOTSUPP. */
#include "probe.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define ARGO_register_ring 1
#define ARGO_unregister_ring 2
#define ARGO_sendv 3
#define MESSAGE_TYPE 0x73687970 /* any value: the receiver hands it on */
#define SLOT 16u
#define RING_HEADER 64u

struct argo_addr {
    uint32_t port;
    uint16_t domid, pad;
};
struct argo_register {
    uint32_t port;
    uint16_t partner, pad;
    uint32_t length;
};
struct argo_unregister {
    uint32_t port;
    uint16_t partner, pad;
};
struct argo_iov {
    uint64_t base;
    uint32_t length, pad;
};
struct argo_ring {
    volatile uint32_t rx, tx;
    uint8_t reserved[RING_HEADER - 8];
    uint8_t data[PAGE - RING_HEADER];
};
struct argo_message {
    uint32_t length; /* with this header */
    struct argo_addr source;
    uint32_t type;
};
_Static_assert(sizeof(struct argo_ring) == PAGE, "one page per ring");
_Static_assert(sizeof(struct argo_message) == SLOT, "a header fills one slot");

#define RINGS 64
static struct ring {
    struct argo_ring *page;
    unsigned port, partner;
    bool used;
} rings[RINGS];

static bool supported(struct reply *r)
{
    if (is_pv())
        answer_error(r, EOPNOTSUPP, "a PV guest cannot name its machine frames: no Argo ring");
    return !is_pv();
}

static struct ring *find(unsigned long port)
{
    for (int i = 0; i < RINGS; i++)
        if (rings[i].used && rings[i].port == port)
            return &rings[i];
    return NULL;
}

/* argo_register PEER PORT: a ring into which only PEER may write. */
void op_argo_register(const struct request *q, struct reply *r)
{
    static struct argo_register reg;
    static uint64_t frame;
    unsigned long peer, port;
    struct ring *ring = NULL;
    if (!arg_number(q, 0, &peer) || !arg_number(q, 1, &port)) {
        answer_error(r, EINVAL, "usage: argo_register PEER PORT");
        return;
    }
    if (!supported(r))
        return;
    if (find(port)) {
        answer_error(r, EEXIST, "there is a ring with this port here");
        return;
    }
    for (int i = 0; i < RINGS && !ring; i++)
        if (!rings[i].used)
            ring = &rings[i];
    if (!ring || (!ring->page && !(ring->page = locked_pages(1)))) {
        answer_error(r, ENOMEM, "no room for another ring");
        return;
    }
    memset(ring->page, 0, PAGE);
    int rc = frame_of(ring->page, &frame);
    if (rc < 0) {
        answer_error(r, -rc, "/proc/self/pagemap");
        return;
    }
    reg = (struct argo_register){
        .port = (uint32_t)port, .partner = (uint16_t)peer, .length = PAGE - RING_HEADER};
    long done = hypercall(HYPERVISOR_argo_op, ARGO_register_ring, POINTER(&reg), POINTER(&frame), 1, 0);
    if (done >= 0) {
        ring->used = true;
        ring->port = (unsigned)port;
        ring->partner = (unsigned)peer;
    }
    answer_rc(r, done, "XEN_ARGO_OP_register_ring");
}

/* argo_send PEER PORT TEXT */
void op_argo_send(const struct request *q, struct reply *r)
{
    static struct {
        struct argo_addr source, dest;
    } address;
    static struct argo_iov iov;
    static char text[TEXT_MAX + 1];
    unsigned long peer, port;
    if (!arg_number(q, 0, &peer) || !arg_number(q, 1, &port)) {
        answer_error(r, EINVAL, "usage: argo_send PEER PORT TEXT");
        return;
    }
    memset(text, 0, sizeof text);
    strncpy(text, arg_text(q, 2), TEXT_MAX);
    address.source = (struct argo_addr){.port = (uint32_t)port, .domid = DOMID_INVALID};
    address.dest = (struct argo_addr){.port = (uint32_t)port, .domid = (uint16_t)peer};
    iov = (struct argo_iov){.base = POINTER(text), .length = (uint32_t)strlen(text) + 1};
    answer_rc(r, hypercall(HYPERVISOR_argo_op, ARGO_sendv, POINTER(&address), POINTER(&iov), 1,
                           MESSAGE_TYPE),
              "XEN_ARGO_OP_sendv");
}

/* Copy out of the ring, around its end. */
static void ring_copy(const struct argo_ring *page, uint32_t from, void *out, size_t length)
{
    for (size_t i = 0; i < length; i++)
        ((uint8_t *)out)[i] = page->data[(from + i) % (PAGE - RING_HEADER)];
}

/* argo_receive PORT [WAIT_MS]: the next message; "count":0 if there is none. */
void op_argo_receive(const struct request *q, struct reply *r)
{
    unsigned long port, wait = 0;
    char text[TEXT_MAX + 1] = "";
    struct ring *ring;
    if (!arg_number(q, 0, &port) || (q->count > 1 && !arg_number(q, 1, &wait)) ||
        !(ring = find(port))) {
        answer_error(r, ENOENT, "usage: argo_receive PORT [WAIT_MS] (a port registered here)");
        return;
    }
    uint64_t end = now_ns() + wait * 1000000u;
    struct argo_ring *page = ring->page;
    while (page->rx == page->tx && now_ns() < end)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    if (page->rx == page->tx) {
        put_number(r, "count", 0);
        answer_ok(r);
        return;
    }
    struct argo_message header;
    __sync_synchronize();
    ring_copy(page, page->rx, &header, sizeof header);
    if (header.length < sizeof header || header.length > PAGE - RING_HEADER) {
        answer_error(r, EIO, "the message in the ring has an impossible length");
        return;
    }
    size_t length = header.length - sizeof header;
    ring_copy(page, page->rx + (uint32_t)sizeof header, text, length < TEXT_MAX ? length : TEXT_MAX);
    __sync_synchronize();
    page->rx = (page->rx + (header.length + SLOT - 1) / SLOT * SLOT) % (PAGE - RING_HEADER);
    put_number(r, "count", 1);
    put_number(r, "source", header.source.domid);
    put_text(r, "text", text);
    answer_ok(r);
}

/* argo_close PORT */
void op_argo_close(const struct request *q, struct reply *r)
{
    static struct argo_unregister gone;
    unsigned long port;
    struct ring *ring;
    if (!arg_number(q, 0, &port) || !(ring = find(port))) {
        answer_error(r, ENOENT, "usage: argo_close PORT (a port registered here)");
        return;
    }
    gone = (struct argo_unregister){.port = ring->port, .partner = (uint16_t)ring->partner};
    long rc = hypercall(HYPERVISOR_argo_op, ARGO_unregister_ring, POINTER(&gone), 0, 0, 0);
    if (rc >= 0)
        ring->used = false; /* else the hypervisor may still write there: keep the page */
    answer_rc(r, rc, "XEN_ARGO_OP_unregister_ring");
}
