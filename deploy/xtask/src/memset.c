#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct part { char *at; size_t length; };

static void *fill(void *given) {
    struct part *part = given;
    memset(part->at, 90, part->length);
    __asm__ volatile("" : : "r"(part->at) : "memory");
    return 0;
}

int main(int count, char **words) {
    size_t length = strtoull(words[1], 0, 10), threads = strtoull(words[2], 0, 10), share = length / threads;
    char *at = mmap(0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return 1;
    madvise(at, length, count > 3 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    pthread_t handles[64];
    struct part parts[64];
    if (threads < 1 || threads > 64) return 1;
    for (size_t i = 0; i < threads; i++) {
        parts[i] = (struct part){ at + i * share, i + 1 == threads ? length - i * share : share };
        if (pthread_create(&handles[i], 0, fill, &parts[i])) return 1;
    }
    for (size_t i = 0; i < threads; i++) pthread_join(handles[i], 0);
    for (;;) pause();
}
