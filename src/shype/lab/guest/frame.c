/* Raw Ethernet frames on eth0: what a guest can send that no honest driver would. */
#define _GNU_SOURCE
#include "probe.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAME_MAX 1514u
#define SHORTEST 60u
#define COUNT_MAX 100000ul
/* A frame's mark: "frame:" and eight characters, anywhere in it. */
#define MARK "frame:"
#define MARK_LENGTH (sizeof MARK - 1)
#define NAME_LENGTH 8u

static int ear = -1;

static int packet_socket(int protocol)
{
    int s = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons((uint16_t)protocol));
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons((uint16_t)protocol),
                             .sll_ifindex = (int)if_nametoindex("eth0")};
    if (s >= 0 && at.sll_ifindex != 0 && bind(s, (struct sockaddr *)&at, sizeof at) == 0)
        return s;
    int error = s < 0 ? errno : at.sll_ifindex == 0 ? ENODEV : errno;
    if (s >= 0)
        close(s);
    errno = error;
    return -1;
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* frame_listen: eth0 up, and every frame from now on is kept until frame_heard. */
void op_frame_listen(const struct request *q, struct reply *r)
{
    (void)q;
    struct ifreq name = {.ifr_name = "eth0"};
    if (ear >= 0)
        close(ear);
    ear = -1;
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool up = control >= 0 && ioctl(control, SIOCGIFFLAGS, &name) == 0;
    name.ifr_flags |= IFF_UP;
    up = up && ioctl(control, SIOCSIFFLAGS, &name) == 0;
    if (control >= 0)
        close(control);
    ear = up ? packet_socket(ETH_P_ALL) : -1;
    int size = 4 << 20;
    struct packet_mreq all = {.mr_ifindex = (int)if_nametoindex("eth0"),
                              .mr_type = PACKET_MR_PROMISC};
    if (ear < 0 || setsockopt(ear, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all) < 0) {
        answer_error(r, errno, "eth0 does not listen");
        return;
    }
    setsockopt(ear, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    answer_ok(r);
}

/* frame_heard: the names in the marks of the frames that came in since frame_listen or the last
 * frame_heard, each once, and how many frames came with one. */
void op_frame_heard(const struct request *q, struct reply *r)
{
    (void)q;
    static char names[4096];
    char frame[2048];
    size_t used = 0;
    long long marked = 0;
    struct sockaddr_ll from;
    socklen_t size = sizeof from;
    ssize_t got;
    if (ear < 0) {
        answer_error(r, ENOENT, "frame_listen comes first");
        return;
    }
    names[0] = '\0';
    while ((got = recvfrom(ear, frame, sizeof frame, MSG_DONTWAIT, (struct sockaddr *)&from,
                           &size)) >= 0) {
        char *mark = memmem(frame, (size_t)got, MARK, MARK_LENGTH);
        if (from.sll_pkttype == PACKET_OUTGOING || mark == NULL ||
            mark + MARK_LENGTH + NAME_LENGTH > frame + got)
            continue;
        marked++;
        char word[NAME_LENGTH + 2] = "";
        memcpy(word, mark + MARK_LENGTH, NAME_LENGTH);
        strcat(word, " ");
        if (strstr(names, word) == NULL && used + sizeof word < sizeof names) {
            strcpy(names + used, word);
            used += NAME_LENGTH + 1;
        }
    }
    put_text(r, "names", names);
    put_number(r, "marked", marked);
    answer_ok(r);
}

/* One frame out of hexadecimal digits up to the end or a comma; its length, 0 if it is none. */
static size_t parse(const char **text, unsigned char *frame)
{
    size_t length = 0;
    memset(frame, 0, FRAME_MAX);
    for (; **text != '\0' && **text != ','; *text += 2) {
        int high = digit((*text)[0]), low = high < 0 ? -1 : digit((*text)[1]);
        if (low < 0 || length == FRAME_MAX)
            return 0;
        frame[length++] = (unsigned char)(high << 4 | low);
    }
    *text += **text == ',';
    return length < ETH_HLEN ? 0 : length < SHORTEST ? SHORTEST : length;
}

/* frame_send HEX[,HEX...] [COUNT]: these frames, from their destination addresses on, COUNT times;
 * short ones are filled up with zeros. */
void op_frame_send(const struct request *q, struct reply *r)
{
    static unsigned char frame[FRAME_MAX];
    unsigned long count = 1;
    const char *text = arg_text(q, 0);
    bool good = *text != '\0' &&
                (q->count < 2 || (arg_number(q, 1, &count) && count <= COUNT_MAX));
    for (const char *at = text; good && *at != '\0';)
        good = parse(&at, frame) > 0;
    if (!good) {
        answer_error(r, EINVAL, "usage: frame_send HEX[,HEX...] [COUNT]");
        return;
    }
    int out = packet_socket(0), error = out < 0 ? errno : 0;
    long long sent = 0;
    while (error == 0 && *text != '\0') {
        size_t length = parse(&text, frame);
        for (unsigned long n = 0; error == 0 && n < count; n++)
            if (send(out, frame, length, 0) >= 0)
                sent++;
            else if (errno != ENOBUFS)
                error = errno;
    }
    if (error != 0)
        answer_error(r, error, "the frame was not sent");
    else {
        put_number(r, "sent", sent);
        answer_ok(r);
    }
    if (out >= 0)
        close(out);
}
