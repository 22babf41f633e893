/* Bulk transfer over the PV network and the PV disk, for end-to-end figures. */
#define _GNU_SOURCE
#include "probe.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK 65536u
#define KIB_MAX (1024ul * 1024ul)

static _Alignas(4096) char chunk[CHUNK];

static bool address_ok(const char *text, const char *allowed)
{
    return text != NULL && *text != '\0' && strlen(text) < 40 &&
           text[strspn(text, allowed)] == '\0';
}

/* net_up ADDRESS/PREFIX: eth0 of this guest. */
void op_net_up(const struct request *q, struct reply *r)
{
    char line[160];
    const char *address = arg_text(q, 0);
    if (!address_ok(address, "0123456789./")) {
        answer_error(r, EINVAL, "usage: net_up ADDRESS/PREFIX");
        return;
    }
    snprintf(line, sizeof line, "ip addr add %s dev eth0 && ip link set eth0 up", address);
    if (system(line) == 0)
        answer_ok(r);
    else
        answer_error(r, EIO, "ip could not bring eth0 up");
}

static void serve(int listener)
{
    for (;;) {
        int peer = accept(listener, NULL, NULL);
        if (peer < 0)
            continue;
        ssize_t got;
        while ((got = read(peer, chunk, CHUNK)) > 0)
            ;
        if (got == 0 && write(peer, "k", 1) != 1)
            got = -1;
        close(peer);
    }
}

/* net_serve PORT: a child that swallows what it is sent and confirms the end. */
void op_net_serve(const struct request *q, struct reply *r)
{
    unsigned long port;
    if (!arg_number(q, 0, &port) || port > 65535) {
        answer_error(r, EINVAL, "usage: net_serve PORT");
        return;
    }
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (listener < 0 || bind(listener, (struct sockaddr *)&own, sizeof own) < 0 ||
        listen(listener, 4) < 0) {
        answer_error(r, errno, "cannot listen");
        if (listener >= 0)
            close(listener);
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(null, 1);
        serve(listener);
    }
    close(listener);
    if (child < 0) {
        answer_error(r, errno, "cannot fork");
        return;
    }
    put_number(r, "pid", child);
    answer_ok(r);
}

/* net_send ADDRESS PORT KIB: how long until the peer confirms all of it. */
void op_net_send(const struct request *q, struct reply *r)
{
    unsigned long port, kib;
    struct sockaddr_in peer = {.sin_family = AF_INET};
    const char *address = arg_text(q, 0);
    if (address == NULL || inet_pton(AF_INET, address, &peer.sin_addr) != 1 ||
        !arg_number(q, 1, &port) || port > 65535 || !arg_number(q, 2, &kib) || kib > KIB_MAX) {
        answer_error(r, EINVAL, "usage: net_send ADDRESS PORT KIB");
        return;
    }
    peer.sin_port = htons((uint16_t)port);
    int out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval limit = {.tv_sec = 20};
    setsockopt(out, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    setsockopt(out, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (out < 0 || connect(out, (struct sockaddr *)&peer, sizeof peer) < 0) {
        answer_error(r, errno, "cannot connect");
        if (out >= 0)
            close(out);
        return;
    }
    uint64_t began = now_ns();
    unsigned long long left = (unsigned long long)kib * 1024;
    ssize_t done = 0;
    while (left > 0 && (done = write(out, chunk, left < CHUNK ? left : CHUNK)) > 0)
        left -= (unsigned long long)done;
    shutdown(out, SHUT_WR);
    char confirmed = 0;
    if (left == 0 && read(out, &confirmed, 1) == 1) {
        put_number(r, "ns", (long long)(now_ns() - began));
        put_number(r, "kib", (long long)kib);
        answer_ok(r);
    } else {
        answer_error(r, errno, "the transfer broke off");
    }
    close(out);
}

/* disk_read DEVICE KIB, disk_write DEVICE KIB: from the start, past the page cache. */
static void disk(const struct request *q, struct reply *r, bool writing)
{
    unsigned long kib;
    const char *device = arg_text(q, 0);
    if (device == NULL || strncmp(device, "/dev/xvd", 8) != 0 || !arg_number(q, 1, &kib) ||
        kib > KIB_MAX || kib % (CHUNK / 1024) != 0) {
        answer_error(r, EINVAL, "usage: disk_read|disk_write /dev/xvdX KIB (a multiple of 64)");
        return;
    }
    int file = open(device, (writing ? O_WRONLY : O_RDONLY) | O_DIRECT | O_CLOEXEC);
    if (file < 0) {
        answer_error(r, errno, "cannot open the disk");
        return;
    }
    uint64_t began = now_ns();
    unsigned long long left = (unsigned long long)kib * 1024;
    ssize_t done = CHUNK;
    while (left > 0 && done == (ssize_t)CHUNK) {
        done = writing ? write(file, chunk, CHUNK) : read(file, chunk, CHUNK);
        left -= CHUNK;
    }
    if (done == (ssize_t)CHUNK && (!writing || fsync(file) == 0)) {
        put_number(r, "ns", (long long)(now_ns() - began));
        put_number(r, "kib", (long long)kib);
        answer_ok(r);
    } else {
        answer_error(r, errno, "the transfer broke off");
    }
    close(file);
}

void op_disk_read(const struct request *q, struct reply *r)
{
    disk(q, r, false);
}

void op_disk_write(const struct request *q, struct reply *r)
{
    disk(q, r, true);
}
