/* What the daemon parses of its command line (-S, -O, -L, -J), and of files that it reads: the stat of a process,
 * mountinfo, the text for the log, and the environment of another process. Users choose names in all of these. The
 * first byte of an input says which it is. What is refused ends the daemon by dropbear_exit(). */

#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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
#define DROPBEAR_SUCCESS 0
#define DROPBEAR_FAILURE -1

struct exitinfo {
	int exitpid, exitstatus, exitsignal;
};

static struct {
	struct {
		unsigned int authdone, failcount, serv_pubkey_query_count, checkusername_failed;
	} authstate;
	int exitflag, maxfd;
} ses;
static struct {
	char *addrstring;
} svr_ses = {"10.0.0.1:4000"};
static struct {
	const char *pidfile;
} svr_opts = {""};

static jmp_buf refused;

#define dropbear_exit(...) longjmp(refused, 1)
#define dropbear_close(...) longjmp(refused, 1)
#define dropbear_log(priority, ...) ((void)(priority))
#define m_close(fd) ((fd) < 0 ? 0 : close(fd))
#define m_malloc(size) calloc(1, size)
#define m_free(pointer) free(pointer)
#define m_strdup(text) strdup(text)
#define gettime_wrapper(now) clock_gettime(CLOCK_MONOTONIC, now)

static void genrandom(unsigned char *buf, unsigned int len) {
	memset(buf, 0xab, len);
}

static size_t copy_text(char *to, const char *from, size_t size) {
	return (size_t)snprintf(to, size, "%s", from);
}
#undef strlcpy
#define strlcpy(to, from, size) copy_text(to, from, size)

static int text_file; /* in place of those in /proc */
#define openat(directory, name, flags) dup(text_file)

#include "svr-door.c"
#include "svr-environment.c"
#include "svr-gate.c"
#include "svr-logins.c"

#define MOST_BYTES 4096


static void require(int holds) {
	if (!holds) {
		abort();
	}
}

/* Returns the descriptor of a file with this text, at its beginning */
static int written(const char *text, size_t len) {
	require(ftruncate(text_file, 0) == 0 && pwrite(text_file, text, len, 0) == (ssize_t)len
		&& lseek(text_file, 0, SEEK_SET) == 0);
	return text_file;
}

static void parse_gate(const char *text, size_t len) {
	(void)len;
	stat_fd = ready_fd = before_fd = mounts_fd = -1;
	gate_parse(text);
	require(stat_fd >= 0 && ready_fd >= 0 && (before_fd < 0) == (mounts_fd < 0));
}

static void parse_door(const char *text, size_t len) {
	(void)len;
	door = -1;
	door_parse(text);
	require(door >= 0);
}

static void parse_logins(const char *text, size_t len) {
	static char copy[MOST_BYTES + 1];

	memcpy(copy, text, len + 1);
	log_socket = text_fd = log_directory = -1;
	logins_parse(copy);
	require(*text == '\0' || (log_socket >= 0 && text_fd >= 0));
}

static void parse_environment(const char *text, size_t len) {
	environment_parse(text);
	require(first_pid > 0 && environment_file > text && environment_file <= text + len);
}

static void read_process(const char *text, size_t len) {
	unsigned long long start = 0, begin = 0, end = 0;
	char state = 0;

	written(text, len);
	read_stat(-1, &state, &start, &begin, &end);
	stat_fd = written(text, len);
	is_before_exec();
}

static void read_mounts(const char *text, size_t len) {
	static const unsigned int parent = 7;

	root_mount = 5;
	has_root_mount(dup(written(text, len)), &parent);
	has_root_mount(dup(written(text, len)), NULL);
}

static void read_log_text(const char *text, size_t len) {
	static struct shared memory;

	memset(&memory, 0, sizeof(memory));
	shared = &memory;
	text_fd = written(text, len);
	if (read_text()) {
		require(memchr(memory.name, '\0', sizeof(memory.name)) != NULL);
		require(memchr(memory.label, '\n', strlen(memory.label)) == NULL);
		require(strlen(memory.label) + strlen(memory.fields) < TEXT_LEN);
	}
	shared = NULL;
}

/* A line that sets a variable is one word for a shell, which has the value without its quotes */
static void check_export(const char *variable, const char *line) {
	const char *value = strchr(variable, '=') + 1;
	size_t name = (size_t)(value - variable);

	require(strncmp(line, "export ", 7) == 0 && strncmp(line + 7, variable, name) == 0 && line[7 + name] == '\'');
	for (line += 8 + name; *value; value++) {
		if (*value == '\'') {
			require(strncmp(line, "'\\''", 4) == 0);
			line += 4;
		} else {
			require(*line++ == *value);
		}
	}
	require(strcmp(line, "'\n") == 0);
}

static void read_environment(const char *text, size_t len) {
	size_t count = 0, size = 0, i;
	const char *variable = text;
	char *line;
	FILE *file;

	if (!is_environment(text, len, &count)) {
		return;
	}
	for (i = 0; i < count; i++, variable += strlen(variable) + 1) {
		require(variable < text + len);
		file = open_memstream(&line, &size);
		write_export(file, variable);
		fclose(file);
		if (size > 0) {
			check_export(variable, line);
		}
		free(line);
	}
	require(variable == text + len);
}

static void (*const parsers[])(const char *, size_t) = {
	parse_gate, parse_door, parse_logins, parse_environment, read_process, read_mounts, read_log_text, read_environment
};

int LLVMFuzzerInitialize(int *argc, char ***argv) {
	(void)argc;
	(void)argv;
	text_file = memfd_create("text", MFD_CLOEXEC);
	require(text_file >= 0);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	static char *text; /* of this size: a byte more that is read is a fault */

	if (size == 0 || size > MOST_BYTES) {
		return 0;
	}
	text = malloc(size);
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	if (setjmp(refused) == 0) {
		parsers[*data % (sizeof(parsers) / sizeof(*parsers))](text, size - 1);
	}
	free(text);
	return 0;
}
