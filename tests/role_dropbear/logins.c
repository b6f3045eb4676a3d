/* svr-logins.c of Dropbear, without a network: prints what the daemon of a log receives, in the format that the first
 * argument names. The daemon reads nothing for a while, is killed and started anew, and a minute passes. The second
 * argument may be "without a directory", or "a link": such is at the name of the new daemon's socket. Or it is "small
 * files", for a server that may have no others, or "no memory", for a connection that can have none. "a flood" is of
 * sessions of one connection. "stands for it" is about the process that stands for the server: it ends, though it has
 * another child. The third argument says when: "at the gate" by SIGTERM, while the server waits there, "killed" when the
 * server is killed behind it, "deaf" by SIGTERM where sigwait(3) is refused, and "old" where close_range(2) is, too. */

#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define MIN(a, b) ((a) < (b) ? (a) : (b))

struct exitinfo {
	int exitpid, exitstatus, exitsignal;
};

static struct {
	struct {
		unsigned int authdone, failcount, serv_pubkey_query_count, checkusername_failed;
	} authstate;
} ses;
static struct {
	char *addrstring;
} svr_ses = {"10.0.0.1%\033:4000"}; /* an interface's name is at the end of addresses of some networks */
static unsigned long clock_ms = 1000000;

static void gettime_wrapper(struct timespec *now) {
	now->tv_sec = clock_ms / 1000;
	now->tv_nsec = clock_ms % 1000 * 1000000;
}

static void genrandom(unsigned char *buf, unsigned int len) {
	memset(buf, 0xab, len);
}

static void dropbear_log(int priority, const char *format, ...) {
	(void)priority;
	(void)format;
	puts("== warning");
}

static void dropbear_exit(const char *format, ...) {
	(void)format;
	puts("== ended");
	exit(0);
}

#define m_close(fd) ((fd) < 0 ? 0 : close(fd))
#define m_free(pointer) free(pointer)
#define m_strdup(text) strdup(text)
static int forks; /* else the one process of this test is listener and connection */
static pid_t fork_if(void) {
	return forks ? fork() : 0;
}
#define fork() fork_if()
static int is_deaf, is_old;
static int close_if(int fd) {
	if (close(fd) < 0 && !is_old) {
		abort(); /* a start would take longer by a thousand of these */
	}
	return 0;
}
#define close(fd) close_if(fd)
#define syscall(number, ...) (is_old ? -1 : syscall(number, __VA_ARGS__))
/* Where it is refused, this process is stopped: whoever waits for it knows how far it is */
static int sigwait_if(const sigset_t *signals, int *number) {
	return is_deaf ? raise(SIGSTOP), EPERM : sigwait(signals, number);
}
#define sigwait(signals, number) sigwait_if(signals, number)
#define getppid() (forks ? getppid() : getpid())
#define time(none) 1000000000 /* in the year 2001 */
#include "svr-logins.c"
#undef fork
#undef close

#define TRIES 10 /* of which one is not held up by other processes */

static int daemon_socket;

static void start_daemon(void) {
	struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = "log"};

	unlink("log");
	daemon_socket = socket(AF_UNIX, SOCK_DGRAM, 0);
	if (bind(daemon_socket, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		abort();
	}
}

static void print_received(const char *what) {
	char line[LINE_LEN];
	ssize_t len;

	printf("== %s\n", what);
	while ((len = recv(daemon_socket, line, sizeof(line), MSG_DONTWAIT)) > 0) {
		printf("%.*s\n", (int)len, line);
	}
}

static void open_log(const char *protocol, int with_directory) {
	struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = "log"};
	const struct timeval patience = {0, SEND_MS * 1000};
	int text[2];
	static char words[16];
	FILE *writer;

	log_socket = socket(AF_UNIX, SOCK_DGRAM, 0);
	setsockopt(log_socket, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	log_directory = with_directory ? open(".", O_PATH | O_DIRECTORY) : -1;
	if (connect(log_socket, (struct sockaddr *)&addr, sizeof(addr)) < 0 || pipe(text) < 0) {
		abort();
	}
	text_fd = text[0];
	snprintf(words, sizeof(words), "%d,%d", log_socket, text_fd);
	argument = words;
	writer = fdopen(text[1], "w");
	fprintf(writer, "%s log 3600 1\n, user alice, job 7\n%s", protocol,
		strcmp(protocol, "journal") == 0 ? "SSH_HOOK_USER=alice\n" : " user=\"alice\"");
	fclose(writer);
}

static long milliseconds(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int count_received(void) {
	int count = 0;

	while (recv(daemon_socket, NULL, 0, MSG_DONTWAIT) >= 0) {
		count++;
	}
	return count;
}

/* More sessions of a connection than are logged in a minute; the first one of another; and one a minute later */
static void flood(struct login *login) {
	const struct exitinfo status = {1, 0, -1};
	int i, count = 0;

	shared->more = 0;
	for (i = 0; i < MORE_SESSIONS + 100; i++) {
		logins_begin(login, "shell", NULL);
		logins_end(login, &status);
		count += count_received();
	}
	printf("== %d and %u\n", count, shared->lost);
	logins_forward();
	logins_forward(); /* is counted as one session with the first */
	printf("== forwards: %u\n", shared->lost);
	has_begun = 0;
	logins_begin(login, "shell", NULL);
	printf("== %d\n", count_received());
	logins_begin(login, "shell", NULL);
	printf("== %d\n", count_received());
	clock_ms += 60000;
	logins_begin(login, "shell", NULL);
	printf("== %d\n", count_received());
}

/* The listener, with another child, such as a watcher; then its server */
static void serve(int ready, const char *when) {
	pid_t self = getpid();

	forks = 1;
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (getppid() == self) { /* it may have ended before */
			pause();
		}
		_exit(0);
	}
	logins_listener();
	if (write(ready, "\n", 1) != 1) {
		abort();
	}
	if (strcmp(when, "at the gate") != 0 && logins_gate_is_open() && strcmp(when, "killed") == 0) {
		kill(getpid(), SIGKILL);
	}
	for (;;) {
		pause();
	}
}

/* The descriptors of another process beside the standard ones */
static int count_descriptors(pid_t pid) {
	char path[32];
	DIR *directory;
	struct dirent *entry;
	int count = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	directory = opendir(path);
	if (directory == NULL) {
		abort();
	}
	while ((entry = readdir(directory)) != NULL) {
		count += atoi(entry->d_name) > 2;
	}
	closedir(directory);
	return count;
}

static int stands_for(const char *when) {
	pid_t listener;
	int ready[2], status;
	char byte;

	if (pipe(ready) < 0) {
		abort();
	}
	is_old = strcmp(when, "old") == 0;
	is_deaf = is_old || strcmp(when, "deaf") == 0;
	alarm(60); /* instead of waiting without end */
	listener = (fork)();
	if (listener == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* also where this program is killed by the alarm */
		close(ready[0]);
		serve(ready[1], when);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1) {
		abort();
	}
	if (is_deaf) {
		waitpid(listener, &status, WUNTRACED);
		printf("== descriptors: %d\n", count_descriptors(listener));
	}
	if (strcmp(when, "killed") != 0) {
		kill(listener, SIGTERM);
	}
	kill(listener, SIGCONT);
	waitpid(listener, &status, 0);
	printf("== %s\n", WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : WEXITSTATUS(status) ? "failed" : "succeeded");
	/* The server has gone as well: nobody has the pipe any more */
	printf("== %zd\n", read(ready[0], &byte, 1));
	return 0;
}

int main(int argc, char **argv) {
	struct login login = {NULL};
	const struct exitinfo status = {1, 3, -1}, killed = {1, 0, 9}, unknown = {-1, 0, 0};
	struct timeval *timeout;
	const struct rlimit no_memory = {LINE_LEN, RLIM_INFINITY};
	long begun = 0, least = SEND_MS;
	int door[2], number;

	start_daemon();
	open_log(argv[1], argc == 2 || strcmp(argv[2], "without a directory") != 0);
	if (argc == 4) {
		return stands_for(argv[3]);
	}
	if (argc == 3 && strcmp(argv[2], "small files") == 0) {
		const struct rlimit limit = {LINE_LEN / 4, RLIM_INFINITY};
		setrlimit(RLIMIT_FSIZE, &limit);
		number = log_socket;
		printf("== listener: %d\n", logins_listener());
		printf("== %d\n", shared != NULL);
		if (fcntl(number, F_GETFD) >= 0 || argument[0] != '\0') {
			abort(); /* its connections would try to log, or have the descriptors */
		}
		return 0;
	}
	if (!logins_listener() || shared == NULL || prctl(PR_GET_DUMPABLE) != 1) {
		abort(); /* nothing here makes it so, the server was not before */
	}
	if (fcntl(log_socket, F_GETFD) != 0 || fcntl(text_fd, F_GETFD) != 0) {
		abort(); /* its connections have to inherit them */
	}

	ses.authstate.serv_pubkey_query_count = 1;
	process = getpid();
	logins_disconnected();
	logins_dropped();
	printf("== timeout: %s\n", logins_report(NULL) == NULL ? "none" : "some");
	print_received("refused at once");
	logins_dropped();
	logins_dropped();
	timeout = logins_report(NULL);
	printf("== timeout: %ld\n", timeout ? (long)timeout->tv_sec : -1);
	print_received("nothing within a minute");
	clock_ms += 60000;
	logins_report(NULL);
	print_received("then both");

	munmap(shared, sizeof(struct shared));
	shared = NULL; /* as after the execution of a connection's process */
	if (argc == 3 && strcmp(argv[2], "no memory") == 0) {
		setrlimit(RLIMIT_AS, &no_memory); /* as another process can do */
	}
	logins_connection(0);
	if (shared == NULL || fcntl(log_socket, F_GETFD) != FD_CLOEXEC || fcntl(text_fd, F_GETFD) >= 0) {
		abort();
	}
	ses.authstate.authdone = 1;
	logins_key("SHA256:abc");
	logins_begin(&login, "command", "echo \"x]\\\" \n\001");
	clock_ms += 1234;
	logins_end(&login, &status);
	logins_end(&login, &status);
	logins_begin(&login, "shell", NULL);
	logins_end(&login, &killed);
	logins_begin(&login, "sftp", NULL);
	logins_end(&login, &unknown);
	logins_begin(&login, "shell", NULL);
	logins_end(&login, NULL);
	print_received("sessions");

	if (argc == 3 && strcmp(argv[2], "a flood") == 0) {
		flood(&login);
		return 0;
	}
	while (shared->lost == 0) { /* until the daemon's queue is full */
		shared->more = 0;
		begun = milliseconds();
		logins_begin(&login, "shell", NULL);
	}
	begun = milliseconds() - begun;
	printf("== waited: %s\n", begun < SEND_MS - 10 ? "too short" : begun < 100 * SEND_MS ? "a moment" : "too long");
	for (number = 0; number < TRIES; number++) {
		const long then = milliseconds();
		logins_begin(&login, "shell", NULL);
		least = MIN(least, milliseconds() - then);
	}
	printf("== then: %s\n", least < SEND_MS / 2 ? "nothing" : "too long");
	while (recv(daemon_socket, NULL, 0, MSG_DONTWAIT) >= 0) {}
	logins_begin(&login, "shell", NULL);
	print_received("after a loss");

	text_fd = -1;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, door) < 0) {
		abort();
	}
	logins_connection(door[0]);
	m_free(key);
	key = NULL;
	logins_begin(&login, "shell", NULL);
	print_received("by the door");
	logins_connection(0);
	logins_key("SHA256:abc");

	close(daemon_socket);
	logins_begin(&login, "shell", NULL);
	start_daemon();
	if (argc == 3 && strcmp(argv[2], "a link") == 0 && (rename("log", "elsewhere") < 0 || symlink("elsewhere", "log") < 0)) {
		abort();
	}
	logins_forward();
	logins_forward();
	print_received("a new daemon");
	process = getpid();
	logins_disconnected();
	print_received("the end of its forwardings");
	return 0;
}
