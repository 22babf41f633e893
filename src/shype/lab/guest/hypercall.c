/* Raw hypercalls through /dev/xen/privcmd, and what they need of memory. */
#define _GNU_SOURCE
#include "probe.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct privcmd_hypercall {
    uint64_t op;
    uint64_t arg[5];
};
#define IOCTL_PRIVCMD_HYPERCALL _IOC(_IOC_NONE, 'P', 0, sizeof(struct privcmd_hypercall))

int open_device(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

long hypercall(uint64_t op, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
    static int device = -1;
    struct privcmd_hypercall call = {op, {a, b, c, d, e}};
    if (device < 0) {
        device = open_device("/dev/xen/privcmd");
        if (device < 0)
            return device;
    }
    long rc = ioctl(device, IOCTL_PRIVCMD_HYPERCALL, &call);
    return rc < 0 ? -errno : rc;
}

/* First line of a small file, without the newline; a negative errno if unreadable. */
int file_line(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t length = read(fd, out, size - 1);
    int error = errno;
    close(fd);
    if (length < 0)
        return -error;
    out[length] = '\0';
    out[strcspn(out, "\n")] = '\0';
    return 0;
}

/* In a PV guest frame numbers in /proc are not the hypervisor's. */
bool is_pv(void)
{
    static int known = -1;
    char type[16];
    if (known < 0) {
        if (file_line("/sys/hypervisor/guest_type", type, sizeof type) != 0)
            return false;
        known = strcmp(type, "PV") == 0;
    }
    return known == 1;
}

/* Guest frame number behind a locked page; only meaningful if !is_pv(). */
int frame_of(const void *address, uint64_t *frame)
{
    uint64_t entry = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t got = pread(fd, &entry, sizeof entry, (off_t)(POINTER(address) / PAGE * sizeof entry));
    close(fd);
    if (got != (ssize_t)sizeof entry)
        return -EIO;
    *frame = entry & ((1ull << 55) - 1);
    return *frame ? 0 : -EPERM; /* the kernel shows 0 to a process without CAP_SYS_ADMIN */
}

/* Zeroed pages that stay where they are: the hypervisor keeps their frames.
 * (The guest's init sets vm.compact_unevictable_allowed=0.)  They are kept out
 * of children: after a fork, our next write would move us to a copy of the page
 * while the hypervisor goes on writing to the old one. */
void *locked_pages(size_t count)
{
    void *pages = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_LOCKED, -1, 0);
    if (pages == MAP_FAILED)
        return NULL;
    madvise(pages, count * PAGE, MADV_NOHUGEPAGE);
    if (madvise(pages, count * PAGE, MADV_DONTFORK) < 0) {
        munmap(pages, count * PAGE);
        return NULL;
    }
    memset(pages, 0, count * PAGE);
    return pages;
}

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t now_tsc(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}
