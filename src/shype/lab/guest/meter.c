/* What a guest knows itself of what it uses, to hold the host's figures against. */
#include "probe.h"

#include <stdio.h>
#include <string.h>

#define SPIN_MAX 1000000000000ul

/* spin N: N instructions in a loop of two. */
void op_spin(const struct request *q, struct reply *r)
{
    unsigned long count;
    if (!arg_number(q, 0, &count) || count < 2 || count > SPIN_MAX) {
        answer_error(r, EINVAL, "usage: spin N (a number of instructions)");
        return;
    }
    unsigned long left = count / 2;
    uint64_t began = now_ns();
    __asm__ volatile("1: dec %0\n\tjnz 1b" : "+r"(left) : : "cc");
    put_number(r, "ns", (long long)(now_ns() - began));
    answer_ok(r);
}

static long long number_in(const char *path, int field)
{
    char line[512], *rest = NULL;
    if (file_line(path, line, sizeof line) < 0)
        return -1;
    char *word = strtok_r(line, " \t", &rest);
    while (word != NULL && field-- > 0)
        word = strtok_r(NULL, " \t", &rest);
    long long value = -1;
    if (word != NULL && sscanf(word, "%lld", &value) != 1)
        value = -1;
    return value;
}

/* counters: what this kernel's front ends have moved (-1: there is no such device). */
void op_counters(const struct request *q, struct reply *r)
{
    (void)q;
    put_number(r, "net_received_bytes", number_in("/sys/class/net/eth0/statistics/rx_bytes", 0));
    put_number(r, "net_sent_bytes", number_in("/sys/class/net/eth0/statistics/tx_bytes", 0));
    put_number(r, "net_received_packets",
               number_in("/sys/class/net/eth0/statistics/rx_packets", 0));
    put_number(r, "net_sent_packets", number_in("/sys/class/net/eth0/statistics/tx_packets", 0));
    put_number(r, "disk_reads", number_in("/sys/block/xvda/stat", 0));
    put_number(r, "disk_read_sectors", number_in("/sys/block/xvda/stat", 2));
    put_number(r, "disk_writes", number_in("/sys/block/xvda/stat", 4));
    put_number(r, "disk_written_sectors", number_in("/sys/block/xvda/stat", 6));
    answer_ok(r);
}
