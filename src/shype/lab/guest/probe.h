/* Guest probe: tries event channels, grants, Argo and FLASK operations for
 * real and says what the hypervisor did.  Nothing but libc is needed; the Xen
 * structures are those of the public ABI, written down where they are used.
 */
#ifndef PROBE_H
#define PROBE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROBE_VERSION 1
#define PAGE 4096u
#define TEXT_MAX 255u       /* longest text that an operation carries, bytes */
#define WRITTEN_AT 2048u    /* offset in a shared page of what the peer wrote */
#define DOMID_SELF 0x7ff0u
#define DOMID_INVALID 0x7ff4u

/* One answer: a JSON object that grows by members. */
struct reply {
    char text[6144];
    size_t used;
    int outcome; /* 0 ok, 1 denied by the hypervisor, 2 error */
};

/* One request: operation and its words (already percent-decoded). */
struct request {
    const char *op;
    int count;
    char **words;
};

/* json.c */
void reply_begin(struct reply *r, unsigned long long id, const char *op);
void reply_end(struct reply *r);
void put_text(struct reply *r, const char *name, const char *value);
void put_number(struct reply *r, const char *name, long long value);
void put_errno(struct reply *r, const char *prefix, int error);
void answer_ok(struct reply *r);
void answer_denied(struct reply *r, int error, const char *detail);
void answer_error(struct reply *r, int error, const char *detail);
void answer_rc(struct reply *r, long rc, const char *step);
bool arg_number(const struct request *q, int index, unsigned long *value);
const char *arg_text(const struct request *q, int index);

/* A port or grant reference that a later command on the same command line
 * can name as "@". */
extern unsigned long last_handle;
void put_handle(struct reply *r, const char *name, unsigned long value);

/* hypercall.c: all return >= 0, or a negative errno. */
long hypercall(uint64_t op, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e);
int open_device(const char *path);
int file_line(const char *path, char *out, size_t size);
bool is_pv(void);
int frame_of(const void *address, uint64_t *frame);
void *locked_pages(size_t count);
uint64_t now_ns(void);
uint64_t now_tsc(void);
#define POINTER(p) ((uint64_t)(uintptr_t)(p))

#define HYPERVISOR_memory_op 12
#define HYPERVISOR_xen_version 17
#define HYPERVISOR_grant_table_op 20
#define HYPERVISOR_xsm_op 27
#define HYPERVISOR_sched_op 29
#define HYPERVISOR_event_channel_op 32
#define HYPERVISOR_domctl 36
#define HYPERVISOR_argo_op 39

/* event.c */
int event_device(void);
void event_drain(void);
long event_send_raw(unsigned port);
void op_event_offer(const struct request *q, struct reply *r);
void op_event_bind(const struct request *q, struct reply *r);
void op_event_send(const struct request *q, struct reply *r);
void op_event_received(const struct request *q, struct reply *r);
void op_event_close(const struct request *q, struct reply *r);
void op_event_plant(const struct request *q, struct reply *r);
void op_event_status(const struct request *q, struct reply *r);

/* grant.c */
struct raw_map { /* one page mapped by GNTTABOP_map_grant_ref itself */
    int status;  /* GNTST_*, or a negative errno below -1000 if the hypercall failed */
    uint64_t host;
    uint32_t handle;
};
const char *grant_status_name(int status);
int grant_map_raw(unsigned peer, unsigned gref, bool readonly, struct raw_map *map);
int grant_unmap_raw(const struct raw_map *map);
int grant_copy_once(unsigned peer, unsigned gref, bool from, char *page, unsigned offset,
                    unsigned length, int *status);
char *offered_page(unsigned gref);
void op_grant_offer(const struct request *q, struct reply *r);
void op_grant_read(const struct request *q, struct reply *r);
void op_grant_map(const struct request *q, struct reply *r);
void op_grant_copy(const struct request *q, struct reply *r);
void op_grant_close(const struct request *q, struct reply *r);

/* own.c */
void op_grant_flags(const struct request *q, struct reply *r);
void op_grant_transit(const struct request *q, struct reply *r);
void op_grant_compose(const struct request *q, struct reply *r);
void op_grant_keep(const struct request *q, struct reply *r);
void op_grant_kept(const struct request *q, struct reply *r);
void op_grant_listen(const struct request *q, struct reply *r);
void op_grant_signal(const struct request *q, struct reply *r);

/* argo.c */
void op_argo_register(const struct request *q, struct reply *r);
void op_argo_send(const struct request *q, struct reply *r);
void op_argo_receive(const struct request *q, struct reply *r);
void op_argo_close(const struct request *q, struct reply *r);

/* flask.c */
void op_bool_get(const struct request *q, struct reply *r);
void op_bool_set(const struct request *q, struct reply *r);
void op_policy_load(const struct request *q, struct reply *r);
void op_enforce_set(const struct request *q, struct reply *r);

/* leak.c */
void op_bool_list(const struct request *q, struct reply *r);
void op_flask_facts(const struct request *q, struct reply *r);
void op_lookups_send(const struct request *q, struct reply *r);

/* store.c */
void op_xs(const struct request *q, struct reply *r);
void op_xs_begin(const struct request *q, struct reply *r);
void op_xs_end(const struct request *q, struct reply *r);
void op_xs_events(const struct request *q, struct reply *r);
void op_xs_burst(const struct request *q, struct reply *r);

/* domain.c */
void op_ping(const struct request *q, struct reply *r);
void op_info(const struct request *q, struct reply *r);
void op_foreign_map(const struct request *q, struct reply *r);
void op_end(const struct request *q, struct reply *r);
void op_control(const struct request *q, struct reply *r);

/* bench.c */
void op_bench_send(const struct request *q, struct reply *r);
void op_bench_copy(const struct request *q, struct reply *r);
void op_bench_map(const struct request *q, struct reply *r);

/* frame.c */
void op_frame_listen(const struct request *q, struct reply *r);
void op_frame_heard(const struct request *q, struct reply *r);
void op_frame_send(const struct request *q, struct reply *r);

/* bulk.c */
void op_net_up(const struct request *q, struct reply *r);
void op_net_serve(const struct request *q, struct reply *r);
void op_net_send(const struct request *q, struct reply *r);
void op_disk_read(const struct request *q, struct reply *r);
void op_disk_write(const struct request *q, struct reply *r);

/* meter.c */
void op_spin(const struct request *q, struct reply *r);
void op_counters(const struct request *q, struct reply *r);

#endif
