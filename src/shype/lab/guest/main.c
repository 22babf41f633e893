/* The probe's two faces: `probe serve` answers requests on its standard input
 * for as long as the guest lives; `probe OP ARGS [-- OP ARGS]...` does a few
 * operations and ends (for loops in dom0). */
#define _GNU_SOURCE
#include "probe.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <termios.h>
#include <unistd.h>

static const struct {
    const char *name;
    void (*run)(const struct request *q, struct reply *r);
} operations[] = {
    {"ping", op_ping},
    {"info", op_info},
    {"event_offer", op_event_offer},
    {"event_bind", op_event_bind},
    {"event_send", op_event_send},
    {"event_received", op_event_received},
    {"event_close", op_event_close},
    {"event_plant", op_event_plant},
    {"event_status", op_event_status},
    {"grant_offer", op_grant_offer},
    {"grant_read", op_grant_read},
    {"grant_map", op_grant_map},
    {"grant_copy", op_grant_copy},
    {"grant_close", op_grant_close},
    {"argo_register", op_argo_register},
    {"argo_send", op_argo_send},
    {"argo_receive", op_argo_receive},
    {"argo_close", op_argo_close},
    {"bool_get", op_bool_get},
    {"bool_set", op_bool_set},
    {"policy_load", op_policy_load},
    {"enforce_set", op_enforce_set},
    {"foreign_map", op_foreign_map},
    {"control", op_control},
    {"end", op_end},
    {"bench_send", op_bench_send},
    {"bench_copy", op_bench_copy},
    {"bench_map", op_bench_map},
    {"net_up", op_net_up},
    {"net_serve", op_net_serve},
    {"net_send", op_net_send},
    {"disk_read", op_disk_read},
    {"disk_write", op_disk_write},
    {"spin", op_spin},
    {"counters", op_counters},
    {"grant_flags", op_grant_flags},
    {"grant_transit", op_grant_transit},
    {"grant_compose", op_grant_compose},
    {"grant_keep", op_grant_keep},
    {"grant_kept", op_grant_kept},
    {"grant_listen", op_grant_listen},
    {"grant_signal", op_grant_signal},
    {"bool_list", op_bool_list},
    {"flask_facts", op_flask_facts},
    {"lookups_send", op_lookups_send},
    {"xs", op_xs},
    {"xs_begin", op_xs_begin},
    {"xs_end", op_xs_end},
    {"xs_events", op_xs_events},
    {"xs_burst", op_xs_burst},
    {"frame_listen", op_frame_listen},
    {"frame_heard", op_frame_heard},
    {"frame_send", op_frame_send},
};

static void perform(unsigned long long id, const struct request *q, struct reply *r)
{
    reply_begin(r, id, q->op);
    event_drain();
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        if (strcmp(operations[i].name, q->op) == 0) {
            operations[i].run(q, r);
            reply_end(r);
            return;
        }
    answer_error(r, ENOSYS, "this probe has no such operation");
    reply_end(r);
}

static bool write_all(const char *data, size_t length)
{
    while (length > 0) {
        ssize_t done = write(STDOUT_FILENO, data, length);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        data += done;
        length -= (size_t)done;
    }
    return true;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decoding in place; %00 would end the text, so it is left as it is. */
static void decode(char *word)
{
    char *out = word;
    for (const char *in = word; *in; in++) {
        int value = -1;
        if (in[0] == '%' && hex(in[1]) >= 0 && hex(in[2]) >= 0)
            value = hex(in[1]) << 4 | hex(in[2]);
        if (value > 0)
            in += 2;
        *out++ = value > 0 ? (char)value : *in;
    }
    *out = '\0';
}

#define WORDS 16
/* "ID OP ARGS...".  The last answer is kept: the same id again means that it
 * got lost on the way, and the operation must not happen twice. */
static bool answer_line(char *line)
{
    static struct reply reply;
    static unsigned long long last_id;
    char *words[WORDS], *rest = line, *word, *end;
    int count = 0;
    while (count < WORDS && (word = strsep(&rest, " \t\r")) != NULL)
        if (*word)
            words[count++] = word;
    if (count == 0)
        return true;
    errno = 0;
    unsigned long long id = strtoull(words[0], &end, 10);
    if (errno != 0 || *end != '\0' || id == 0 || count < 2) {
        struct reply bad;
        reply_begin(&bad, 0, "none");
        answer_error(&bad, EINVAL, "a request is: ID OPERATION ARGUMENTS...");
        reply_end(&bad);
        return write_all(bad.text, bad.used);
    }
    if (id != last_id) {
        for (int i = 1; i < count; i++)
            decode(words[i]);
        struct request q = {words[1], count - 2, words + 2};
        perform(id, &q, &reply);
        last_id = id;
    }
    /* the newline in front ends whatever the kernel may have begun to print */
    return write_all("\n", 1) && write_all(reply.text, reply.used);
}

static int serve(void)
{
    static char line[1024];
    size_t used = 0;
    bool overflow = false;
    struct termios mode;
    struct reply hello;
    if (tcgetattr(STDIN_FILENO, &mode) == 0) {
        cfmakeraw(&mode);
        mode.c_cflag |= CLOCAL;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &mode);
    }
    reply_begin(&hello, 0, "hello");
    op_info(NULL, &hello);
    put_number(&hello, "version", PROBE_VERSION);
    reply_end(&hello);
    if (!write_all("\n", 1) || !write_all(hello.text, hello.used))
        return 1;
    for (;;) {
        char buffer[256];
        /* a negative descriptor is ignored: no event device, no events */
        struct pollfd wait_for[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                                     {.fd = event_device(), .events = POLLIN}};
        if (poll(wait_for, 2, -1) < 0 && errno != EINTR)
            return 1;
        event_drain();
        if (!(wait_for[0].revents & (POLLIN | POLLHUP | POLLERR)))
            continue;
        ssize_t got = read(STDIN_FILENO, buffer, sizeof buffer);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0;
        for (ssize_t i = 0; i < got; i++) {
            if (buffer[i] != '\n' && buffer[i] != '\r') {
                if (used + 1 < sizeof line)
                    line[used++] = buffer[i];
                else
                    overflow = true;
                continue;
            }
            line[used] = '\0';
            used = 0;
            if (overflow)
                strcpy(line, "overlong");
            overflow = false;
            if (!answer_line(line))
                return 1;
        }
    }
}

/* probe OP ARGS [-- OP ARGS]...: "@" stands for the port or grant reference
 * that an operation before has given. Ends with the worst outcome. */
static int command_line(int count, char **words)
{
    static struct reply reply;
    int worst = 0;
    unsigned long long id = 1;
    for (int at = 0; at < count; id++) {
        int end = at;
        while (end < count && strcmp(words[end], "--") != 0)
            end++;
        if (end > at) {
            struct request q = {words[at], end - at - 1, words + at + 1};
            perform(id, &q, &reply);
            write_all(reply.text, reply.used);
            if (reply.outcome > worst)
                worst = reply.outcome;
        }
        at = end + 1;
    }
    return worst;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: probe serve | probe OPERATION ARGUMENTS [-- ...]\noperations:");
        for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
            fprintf(stderr, " %s", operations[i].name);
        fprintf(stderr, "\n");
        return 2;
    }
    /* the hypervisor reads our arguments in place: they must not be paged
     * out.  Not MCL_FUTURE: it would populate mappings of the Xen devices. */
    mlockall(MCL_CURRENT);
    if (strcmp(argv[1], "serve") == 0)
        return serve();
    return command_line(argc - 1, argv + 1);
}
