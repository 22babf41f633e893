/* Event channels: opened and bound through /dev/xen/evtchn (it passes the
 * hypervisor's errno on), sent by the raw hypercall (its notify ioctl returns
 * 0 whatever the hypervisor said). */
#include "probe.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct evtchn_interdomain {
    unsigned domain, port;
};
#define BIND_INTERDOMAIN _IOC(_IOC_NONE, 'E', 1, sizeof(struct evtchn_interdomain))
#define BIND_UNBOUND _IOC(_IOC_NONE, 'E', 2, sizeof(unsigned))
#define UNBIND _IOC(_IOC_NONE, 'E', 3, sizeof(unsigned))
#define EVTCHNOP_send 4
#define EVTCHNOP_status 5
#define EVTCHNOP_alloc_unbound 6

#define PORTS 256
static struct port {
    bool used, hold;
    unsigned number;
    unsigned long received;
} ports[PORTS];
static int device = -1;

int event_device(void)
{
    if (device < 0) {
        int fd = open_device("/dev/xen/evtchn");
        if (fd < 0)
            return fd;
        fcntl(fd, F_SETFL, O_NONBLOCK);
        device = fd;
    }
    return device;
}

static struct port *find(unsigned number)
{
    for (int i = 0; i < PORTS; i++)
        if (ports[i].used && ports[i].number == number)
            return &ports[i];
    return NULL;
}

/* Count what has arrived.  A port that is held stays masked after its first
 * event, so that a benchmark's receiver costs nothing. */
void event_drain(void)
{
    uint32_t number;
    if (device < 0)
        return;
    while (read(device, &number, sizeof number) == (ssize_t)sizeof number) {
        struct port *port = find(number);
        if (port)
            port->received++;
        if (port && !port->hold && write(device, &number, sizeof number) < 0)
            port->hold = true;
    }
}

static void remember(struct reply *r, int number, bool hold)
{
    struct port *slot = NULL;
    for (int i = 0; i < PORTS && !slot; i++)
        if (!ports[i].used)
            slot = &ports[i];
    if (!slot) {
        unsigned close_it = (unsigned)number;
        ioctl(device, UNBIND, &close_it);
        answer_error(r, ENOSPC, "the probe's table of ports is full");
        return;
    }
    *slot = (struct port){.used = true, .hold = hold, .number = (unsigned)number};
    put_handle(r, "port", (unsigned long)number);
    answer_ok(r);
}

static bool ready(struct reply *r)
{
    int fd = event_device();
    if (fd < 0)
        answer_error(r, -fd, "open /dev/xen/evtchn");
    return fd >= 0;
}

/* event_offer PEER [hold] */
void op_event_offer(const struct request *q, struct reply *r)
{
    unsigned long peer;
    if (!arg_number(q, 0, &peer)) {
        answer_error(r, EINVAL, "usage: event_offer PEER [hold]");
        return;
    }
    if (!ready(r))
        return;
    unsigned remote = (unsigned)peer;
    int rc = ioctl(device, BIND_UNBOUND, &remote);
    if (rc < 0)
        answer_rc(r, -errno, "EVTCHNOP_alloc_unbound");
    else
        remember(r, rc, strcmp(arg_text(q, 1), "hold") == 0);
}

/* event_bind PEER PORT */
void op_event_bind(const struct request *q, struct reply *r)
{
    unsigned long peer, port;
    if (!arg_number(q, 0, &peer) || !arg_number(q, 1, &port)) {
        answer_error(r, EINVAL, "usage: event_bind PEER PORT");
        return;
    }
    if (!ready(r))
        return;
    struct evtchn_interdomain bind = {(unsigned)peer, (unsigned)port};
    int rc = ioctl(device, BIND_INTERDOMAIN, &bind);
    if (rc < 0)
        answer_rc(r, -errno, "EVTCHNOP_bind_interdomain");
    else
        remember(r, rc, false);
}

long event_send_raw(unsigned port)
{
    static uint32_t argument;
    argument = port;
    return hypercall(HYPERVISOR_event_channel_op, EVTCHNOP_send, POINTER(&argument), 0, 0, 0);
}

/* event_send PORT */
void op_event_send(const struct request *q, struct reply *r)
{
    unsigned long port;
    if (!arg_number(q, 0, &port))
        answer_error(r, EINVAL, "usage: event_send PORT");
    else
        answer_rc(r, event_send_raw((unsigned)port), "EVTCHNOP_send");
}

/* event_received PORT [WAIT_MS [ABOVE]]: waits at most WAIT_MS until more than
 * ABOVE (else 0) have come.  The hypervisor itself raises one event on the
 * local port of a bind: a tester has to wait for more than were there before. */
void op_event_received(const struct request *q, struct reply *r)
{
    unsigned long number, wait = 0, above = 0;
    if (!arg_number(q, 0, &number) || (q->count > 1 && !arg_number(q, 1, &wait)) ||
        (q->count > 2 && !arg_number(q, 2, &above))) {
        answer_error(r, EINVAL, "usage: event_received PORT [WAIT_MS [ABOVE]]");
        return;
    }
    struct port *port = find((unsigned)number);
    if (!port) {
        answer_error(r, ENOENT, "this port is not open here");
        return;
    }
    uint64_t end = now_ns() + wait * 1000000u;
    event_drain();
    while (port->received <= above && now_ns() < end) {
        struct pollfd wait_for = {.fd = device, .events = POLLIN};
        poll(&wait_for, 1, 20);
        event_drain();
    }
    put_number(r, "count", (long long)port->received);
    answer_ok(r);
}

/* event_close PORT */
void op_event_close(const struct request *q, struct reply *r)
{
    unsigned long number;
    struct port *port;
    if (!arg_number(q, 0, &number) || !(port = find((unsigned)number))) {
        answer_error(r, ENOENT, "usage: event_close PORT (a port that is open here)");
        return;
    }
    unsigned close_it = port->number;
    port->used = false;
    answer_rc(r, ioctl(device, UNBIND, &close_it) < 0 ? -errno : 0, "EVTCHNOP_close");
}

/* event_plant DOMID REMOTE COUNT: open ports in the table of *another* domain, for REMOTE to
 * bind to; stops at the first refusal. */
void op_event_plant(const struct request *q, struct reply *r)
{
    static struct {
        uint16_t domid, remote;
        uint32_t port;
    } plant;
    unsigned long domid, remote, count, done = 0;
    long rc = 0;
    if (!arg_number(q, 0, &domid) || !arg_number(q, 1, &remote) || !arg_number(q, 2, &count)) {
        answer_error(r, EINVAL, "usage: event_plant DOMID REMOTE COUNT");
        return;
    }
    for (; done < count; done++) {
        plant.domid = (uint16_t)domid;
        plant.remote = (uint16_t)remote;
        rc = hypercall(HYPERVISOR_event_channel_op, EVTCHNOP_alloc_unbound, POINTER(&plant), 0, 0,
                       0);
        if (rc < 0)
            break;
    }
    put_number(r, "planted", (long long)done);
    put_number(r, "last", plant.port);
    answer_rc(r, rc, "EVTCHNOP_alloc_unbound");
}

/* event_status DOMID PORTS: how many of another domain's first ports it tells about, and with
 * whom one of them is connected. */
void op_event_status(const struct request *q, struct reply *r)
{
    static struct {
        uint16_t domid, pad;
        uint32_t port, status, vcpu;
        uint16_t remote, pad2;
        uint32_t remote_port;
    } ask;
    unsigned long domid, ports;
    long long told = 0, connected = 0, refused = 0;
    if (!arg_number(q, 0, &domid) || !arg_number(q, 1, &ports) || ports > 4096) {
        answer_error(r, EINVAL, "usage: event_status DOMID PORTS");
        return;
    }
    for (uint32_t port = 1; port <= ports; port++) {
        memset(&ask, 0, sizeof ask);
        ask.domid = (uint16_t)domid;
        ask.port = port;
        long rc = hypercall(HYPERVISOR_event_channel_op, EVTCHNOP_status, POINTER(&ask), 0, 0, 0);
        if (rc == -ENOENT || rc == -EPERM) {
            answer_rc(r, rc, "EVTCHNOP_status");
            return;
        }
        told += rc == 0;
        refused += rc == -EACCES;
        if (rc == 0 && ask.status == 2 && !connected++) {
            put_number(r, "port", port);
            put_number(r, "remote", ask.remote);
            put_number(r, "remote_port", ask.remote_port);
        }
    }
    put_number(r, "told", told);
    put_number(r, "refused", refused);
    put_number(r, "connected", connected);
    answer_ok(r);
}
