/* Lines about logins for the system log: see svr-logins.h.
 *
 * The hook that starts the server has opened a socket that is connected to the log
 * of its host, and a directory in which a new one can be connected. Processes that
 * have logged in could do without the lines if they might trace the listener, or
 * the process of another connection. So these are not dumpable, and the process
 * that others know as the server has no part in it any more.
 *
 * What all of these processes have to know is in memory that they share: what is
 * the same in each line, and what is to be counted. */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "includes.h"
#include "dbutil.h"
#include "session.h"
#include "dbrandom.h"
#include "chansession.h"
#include "svr-logins.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define SEND_MS 48 /* that a line may wait for the log's daemon: 50 at most by any kernel's clock */
#define REPORT_MS 60000 /* between two lines about refused logins */
#define MORE_SESSIONS 500 /* of a container, a minute, that are logged beside the first one of each connection */
#define TEXT_LEN 4096
#define COMMAND_LEN 1000 /* of a command's text, which may be longer */
#define LINE_LEN 16384
#define PRIORITY (LOG_AUTHPRIV | LOG_INFO)

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

struct shared {
	unsigned int refused, dropped, lost;
	unsigned int more; /* sessions in `minute` that were not their connection's first */
	unsigned long minute;
	/* By the native protocol of systemd's journal, else as syslog(3) */
	int to_journal;
	int with_commands;
	long zone; /* seconds east of Greenwich */
	char name[32]; /* of the log's socket in its directory */
	char label[TEXT_LEN]; /* whose container it is, for people */
	char fields[TEXT_LEN]; /* and for programs */
};

struct field {
	const char *name; /* the last one's is NULL */
	const char *value; /* NULL where there is none */
};

struct line {
	char data[LINE_LEN];
	size_t len;
};

/* -L: its argument, NULL without; the descriptors of the log's socket, of what to write
 * there, and of the socket's directory; -1 without */
static char *argument;
static int log_socket = -1, text_fd = -1, log_directory = -1;
static struct shared *shared; /* NULL where nothing is logged */
static pid_t process; /* of the connection, and not a child that becomes a session */
static char *key;
static int by_door; /* a Unix socket */
static int has_begun;
static struct login forwards;
static unsigned long last_report; /* 0 where there was none */
static int opened = -1; /* of the listener: a pipe that tells its parent that the gate is open */

static unsigned long now_ms(void) {
	struct timespec ts;
	gettime_wrapper(&ts);
	return (unsigned long)ts.tv_sec * 1000 + (unsigned long)ts.tv_nsec / 1000000;
}

static void add(struct line *line, const char *format, ...) {
	size_t left = sizeof(line->data) - line->len;
	va_list param;
	int len;

	va_start(param, format);
	len = vsnprintf(&line->data[line->len], left, format, param);
	va_end(param);
	line->len += len < 0 ? 0 : MIN((size_t)len, left - 1);
}

static void add_char(struct line *line, char c) {
	if (line->len < sizeof(line->data) - 1) {
		line->data[line->len++] = c;
	}
}

/* For the journal a field is a line; else it is quoted as in RFC 5424. Who logs in
 * may have chosen the value */
static void add_value(struct line *line, const char *value) {
	for (; *value != '\0'; value++) {
		if (!isprint((unsigned char)*value)) {
			add_char(line, '?');
			continue;
		}
		if (!shared->to_journal && strchr("\"\\]", *value) != NULL) {
			add_char(line, '\\');
		}
		add_char(line, *value);
	}
}

static void add_fields(struct line *line, const struct field *field) {
	const char *c;

	for (; field->name != NULL; field++) {
		if (field->value == NULL) {
			continue;
		}
		if (shared->to_journal) {
			add(line, "SSH_HOOK_");
			for (c = field->name; *c != '\0'; c++) {
				add_char(line, *c - 'a' + 'A');
			}
			add_char(line, '=');
			add_value(line, field->value);
			add_char(line, '\n');
		} else {
			add(line, " %s=\"", field->name);
			add_value(line, field->value);
			add_char(line, '"');
		}
	}
}

/* The log's daemon may have been started anew, with another socket. Its path leads
 * nowhere in the server's root directory, so the server enters its directory */
static int reconnect(void) {
	const struct timeval patience = {0, SEND_MS * 1000};
	struct sockaddr_un addr;
	struct stat st;
	int sock, here, connected;

	/* A link would lead on in the server's own root directory */
	if (log_directory < 0
		|| fstatat(log_directory, shared->name, &st, AT_SYMLINK_NOFOLLOW) < 0
		|| !S_ISSOCK(st.st_mode)) {
		return 0;
	}
	sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	memset(&addr, 0x0, sizeof(addr));
	addr.sun_family = AF_UNIX;
	strlcpy(addr.sun_path, shared->name, sizeof(addr.sun_path));
	connected = sock >= 0 && here >= 0
		&& setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) == 0
		&& fchdir(log_directory) == 0;
	if (connected) {
		connected = connect(sock, (struct sockaddr *)&addr, sizeof(addr)) == 0;
		if (fchdir(here) < 0) { /* to which -D and others may be relative */
			dropbear_exit("Cannot leave the directory of the log: %s", strerror(errno));
		}
	}
	/* Those that the listener starts later have it too */
	if (connected) {
		int flags = fcntl(log_socket, F_GETFD);
		connected = dup3(sock, log_socket, flags & FD_CLOEXEC ? O_CLOEXEC : 0) >= 0;
	}
	if (sock >= 0) {
		close(sock);
	}
	if (here >= 0) {
		close(here);
	}
	return connected;
}

static int send_once(const struct line *line, int flags) {
	const unsigned long begun = now_ms();
	ssize_t len;

	do {
		len = send(log_socket, line->data, line->len, MSG_NOSIGNAL | flags);
	} while (len < 0 && errno == EINTR && now_ms() - begun < SEND_MS);
	return len >= 0; /* a datagram is sent whole or not at all */
}

static void log_line(const char *message, const struct field *fields) {
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	static struct line line;
	static int is_stuck; /* all sessions of a connection would wait again for each line of one */
	int is_sent;
	unsigned int lost = __sync_fetch_and_and(&shared->lost, 0);
	char number[12], losses[48] = "";
	struct field loss[] = {{"lost", lost ? number : NULL}, {NULL, NULL}};

	snprintf(number, sizeof(number), "%u", lost);
	if (lost) {
		snprintf(losses, sizeof(losses), " (earlier lines lost: %u)", lost);
	}
	line.len = 0;
	if (shared->to_journal) {
		add(&line, "MESSAGE=%s%s%s\nPRIORITY=%d\nSYSLOG_FACILITY=%d\nSYSLOG_IDENTIFIER=ssh_hook\n%s",
			message, shared->label, losses, LOG_PRI(PRIORITY), LOG_FAC(PRIORITY), shared->fields);
	} else {
		time_t local = time(NULL) + shared->zone;
		struct tm tm;
		gmtime_r(&local, &tm);
		add(&line, "<%d>%.3s %2d %02d:%02d:%02d ssh_hook: [ssh_hook%s", PRIORITY,
			&months[3 * tm.tm_mon], tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, shared->fields);
	}
	add_fields(&line, fields);
	add_fields(&line, loss);
	if (!shared->to_journal) {
		/* Behind the fields: a label may look like some */
		add(&line, "] %s%s%s", message, shared->label, losses);
	}
	is_sent = send_once(&line, is_stuck ? MSG_DONTWAIT : 0);
	/* The second time without waiting: the first may have waited until its daemon ended */
	if (!is_sent && errno != EAGAIN && errno != EINTR) {
		is_sent = reconnect() && send_once(&line, MSG_DONTWAIT);
	}
	is_stuck = !is_sent;
	if (is_stuck) {
		__sync_fetch_and_add(&shared->lost, lost + 1);
	}
}

/* What the hook has written: "journal" or "syslog", the socket's name, the time zone,
 * and whether commands are wanted; a line for people; then fields */
static int read_text(void) {
	char text[TEXT_LEN], protocol[8] = "";
	ssize_t len = read(text_fd, text, sizeof(text) - 1);
	char *label, *fields;

	text[MAX(len, 0)] = '\0';
	label = strchr(text, '\n');
	fields = label ? strchr(label + 1, '\n') : NULL;
	if (fields == NULL || sscanf(text, "%7s %31s %ld %d", protocol, shared->name,
		&shared->zone, &shared->with_commands) != 4) {
		return 0;
	}
	*fields = '\0';
	strlcpy(shared->label, label + 1, sizeof(shared->label));
	strlcpy(shared->fields, fields + 1, sizeof(shared->fields));
	shared->to_journal = strcmp(protocol, "journal") == 0;
	return 1;
}

static int map_shared(int fd) {
	shared = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shared == MAP_FAILED) {
		shared = NULL;
	}
	return shared != NULL;
}

/* The memory takes the place of the pipe, by whose number its connections know it */
static int share(void) {
	int type, fd, is_large;
	socklen_t len = sizeof(type);

	/* SELinux may have taken it away */
	if (log_socket < 0
		|| getsockopt(log_socket, SOL_SOCKET, SO_TYPE, &type, &len) < 0) {
		return 0;
	}
	/* Nodes may refuse a file that could be executed; Linux before 6.3 does not know the flag */
	fd = memfd_create("logins", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
	if (fd < 0 && errno == EINVAL) {
		fd = memfd_create("logins", MFD_CLOEXEC);
	}
	/* Beyond the container's limit of file sizes it is an error like others */
	signal(SIGXFSZ, SIG_IGN);
	is_large = fd >= 0 && ftruncate(fd, sizeof(struct shared)) == 0;
	signal(SIGXFSZ, SIG_DFL);
	if (!is_large || !map_shared(fd)) {
		m_close(fd);
		return 0;
	}
	if (!read_text() || dup2(fd, text_fd) < 0) {
		munmap(shared, sizeof(struct shared));
		shared = NULL;
	}
	close(fd);
	return shared != NULL;
}

/* Close all descriptors from this one on. A start would take longer by a thousand calls
 * of close(2), but before Linux 5.9, or where a seccomp profile does not know close_range(2) */
static void close_from(int fd) {
#ifdef SYS_close_range
	if (syscall(SYS_close_range, fd, ~0U, 0) == 0) {
		return;
	}
#endif
	for (; fd < FD_SETSIZE; fd++) { /* the listener has no higher ones, for select() */
		close(fd);
	}
}

/* Be what others see of the server, which is the child. End with it, and as it, whatever
 * other children this has: who watches or ends the server knows what to do about these
 * where it is gone */
static void stand_for(pid_t child, int gate, const sigset_t *signals) {
	int number, status = 0;
	pid_t pid;
	char byte;
	sigset_t ends;

	gate = dup2(gate, 3);
	close_from(4);
	munmap(shared, sizeof(struct shared));
	/* Until the gate is open there are no sessions: a signal ends both at once */
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	ends = *signals;
	sigdelset(&ends, SIGCHLD);
	sigprocmask(SIG_UNBLOCK, &ends, NULL);
	if (read(gate, &byte, 1) == 1) {
		prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	}
	sigprocmask(SIG_BLOCK, &ends, NULL);
	close(gate);
	do {
		/* A seccomp profile may forbid to wait for signals */
		int is_deaf = sigwait(signals, &number) != 0;
		if (is_deaf) {
			sigprocmask(SIG_UNBLOCK, &ends, NULL); /* one ends this process, and so the child */
		} else if (number != SIGCHLD) {
			kill(child, SIGTERM);
		}
		do {
			pid = waitpid(-1, &status, is_deaf ? 0 : WNOHANG);
		} while (pid > 0 && pid != child);
	} while (pid == 0);
	if (pid == child && WIFSIGNALED(status)) {
		prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* without a core file: it would tell nothing */
		signal(WTERMSIG(status), SIG_DFL);
		sigprocmask(SIG_UNBLOCK, signals, NULL);
		kill(getpid(), WTERMSIG(status));
	}
	_exit(pid == child && WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE);
}

static int fork_server(void) {
	sigset_t signals, before;
	pid_t self = getpid(), child;
	int number, gate[2];

	/* A seccomp profile may refuse prctl(2), without which a killed parent leaves the child */
	if (prctl(PR_GET_PDEATHSIG, &number, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) < 0
		|| pipe2(gate, O_CLOEXEC) < 0) {
		return 0;
	}
	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, &before);
	/* Who ends the server finds its processes by descent, also where they have outlived the child */
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	child = fork();
	if (child > 0) {
		stand_for(child, gate[0], &signals);
	}
	close(gate[0]);
	if (child == 0) {
		opened = gate[1];
		if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != self) {
			_exit(EXIT_FAILURE);
		}
	} else {
		close(gate[1]);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	return child == 0;
}

void logins_parse(char *arg) {
	argument = arg;
	/* It is empty for the connections of a listener that could not log */
	if (*arg != '\0' && (sscanf(arg, "%d,%d,%d", &log_socket, &text_fd, &log_directory) < 2
		|| log_socket < 0 || text_fd < 0)) {
		dropbear_exit("Bad -L");
	}
}

int logins_are_given(void) {
	return log_socket >= 0;
}

int logins_listener(void) {
	if (log_socket < 0 || (share() && fork_server())) {
		return 1;
	}
	/* Rather without lines than without a server */
	dropbear_log(LOG_WARNING, "Logins are not logged: %s", strerror(errno));
	shared = NULL;
	m_close(log_socket);
	m_close(text_fd);
	m_close(log_directory);
	log_socket = -1;
	/* Its connections, executed with the same words, shall not try to */
	memset(argument, '\0', strlen(argument));
	return 0;
}

int logins_gate_is_open(void) {
	if (opened < 0) {
		return 0;
	}
	if (write(opened, "\n", 1) != 1) {
		dropbear_exit("The parent of this server has ended");
	}
	m_close(opened);
	return 1;
}

int logins_maxfd(void) {
	return MAX(log_socket, MAX(text_fd, log_directory));
}

void logins_connection(int sock) {
	int domain = 0;
	socklen_t len = sizeof(domain);

	if (log_socket < 0) {
		return;
	}
	process = getpid();
	by_door = getsockopt(sock, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX;
	/* Another process of its user may have set a limit, so that it would log nothing */
	if (shared == NULL && !map_shared(text_fd)) {
		dropbear_exit("Cannot log logins: %s", strerror(errno));
	}
	/* Not for sessions */
	m_close(text_fd);
	fcntl(log_socket, F_SETFD, FD_CLOEXEC);
	if (log_directory >= 0) {
		fcntl(log_directory, F_SETFD, FD_CLOEXEC);
	}
}

struct timeval *logins_report(struct timeval *timeout) {
	static struct timeval tv;
	char message[128], refused[12], dropped[12];
	const struct field fields[] = {
		{"event", "refused"}, {"refused", refused}, {"dropped", dropped}, {NULL, NULL}
	};
	unsigned long now;
	long left;

	if (shared == NULL || (shared->refused == 0 && shared->dropped == 0)) {
		return timeout;
	}
	now = now_ms();
	if (last_report != 0 && now - last_report < REPORT_MS) {
		left = (long)(REPORT_MS - (now - last_report));
		if (timeout == NULL || timeout->tv_sec >= left / 1000 + 1) {
			tv.tv_sec = left / 1000;
			tv.tv_usec = left % 1000 * 1000;
			timeout = &tv;
		}
		return timeout;
	}
	last_report = now;
	snprintf(refused, sizeof(refused), "%u", __sync_fetch_and_and(&shared->refused, 0));
	snprintf(dropped, sizeof(dropped), "%u", __sync_fetch_and_and(&shared->dropped, 0));
	snprintf(message, sizeof(message), "refused logins: %s, connections that ended before a login: %s",
		refused, dropped);
	log_line(message, fields);
	return timeout;
}

void logins_dropped(void) {
	if (shared != NULL) {
		__sync_fetch_and_add(&shared->dropped, 1);
	}
}

void logins_key(const char *fingerprint) {
	m_free(key);
	key = m_strdup(fingerprint);
}

static void log_login(const char *event, const struct login *login, const char *end, struct field *more) {
	const char *from = by_door ? "the door" : svr_ses.addrstring;
	char message[512], id[9], *c;
	struct field fields[10] = {
		{"event", event}, {"session", id}, {"kind", login->kind}, {"from", from}, {"key", key}
	};
	size_t i;

	snprintf(id, sizeof(id), "%08x", login->id);
	for (i = 5; i < 9 && more->name != NULL; i++) {
		fields[i] = *more++;
	}
	snprintf(message, sizeof(message), "session %s %s: %s from %s, %s%s%s", id, event, login->kind,
		from, key ? "key " : "no key", key ? key : "", end);
	for (c = message; *c != '\0'; c++) {
		if (!isprint((unsigned char)*c)) {
			*c = '?'; /* an IPv6 address may end in an interface's name */
		}
	}
	log_line(message, fields);
}

/* Whether a session leaves lines: the first one of a connection does. One connection
 * could fill the log with others, which have its address and key, so that lines about
 * other containers, too, would be lost */
static int leaves_lines(void) {
	unsigned long minute = now_ms() / 60000;

	if (!has_begun) {
		return 1;
	}
	if (shared->minute != minute) {
		shared->minute = minute;
		shared->more = 0;
	}
	return __sync_add_and_fetch(&shared->more, 1) <= MORE_SESSIONS;
}

void logins_begin(struct login *login, const char *kind, const char *command) {
	char text[COMMAND_LEN + 1];
	struct field more[] = {{"command", NULL}, {NULL, NULL}};

	if (shared == NULL) {
		return;
	}
	if (!leaves_lines()) {
		__sync_fetch_and_add(&shared->lost, 2);
		return;
	}
	has_begun = 1;
	login->kind = kind;
	genrandom((unsigned char *)&login->id, sizeof(login->id));
	gettime_wrapper(&login->begun);
	if (command != NULL && shared->with_commands) {
		strlcpy(text, command, sizeof(text));
		more[0].value = text;
	}
	log_login("begins", login, "", more);
}

void logins_end(struct login *login, const struct exitinfo *exit) {
	char end[64], status[12], seconds[24];
	struct field more[] = {{"seconds", seconds}, {NULL, NULL}, {NULL, NULL}};
	struct timespec now;
	long milliseconds;

	if (shared == NULL || login->kind == NULL || getpid() != process) {
		return;
	}
	gettime_wrapper(&now);
	milliseconds = (now.tv_sec - login->begun.tv_sec) * 1000 + (now.tv_nsec - login->begun.tv_nsec) / 1000000;
	snprintf(seconds, sizeof(seconds), "%ld.%03ld", milliseconds / 1000, milliseconds % 1000);
	if (exit == NULL) {
		more[1].name = "started";
		more[1].value = "no";
		snprintf(end, sizeof(end), ", not started");
	} else if (exit->exitpid == -1) {
		snprintf(end, sizeof(end), ", disconnected after %s s", seconds);
	} else {
		int is_signal = exit->exitsignal > 0;
		snprintf(status, sizeof(status), "%d", is_signal ? exit->exitsignal : exit->exitstatus);
		more[1].name = is_signal ? "signal" : "status";
		more[1].value = status;
		snprintf(end, sizeof(end), ", %s %s after %s s", is_signal ? "signal" : "status", status, seconds);
	}
	log_login("ends", login, end, more);
	login->kind = NULL;
}

void logins_forward(void) {
	static int has_forwarded;

	if (!has_forwarded) {
		has_forwarded = 1;
		logins_begin(&forwards, "forward", NULL);
	}
}

void logins_disconnected(void) {
	const struct exitinfo unknown = {.exitpid = -1};

	if (shared == NULL || getpid() != process) {
		return;
	}
	if (!ses.authstate.authdone) {
		int has_tried = ses.authstate.failcount > 0 || ses.authstate.serv_pubkey_query_count > 0
			|| ses.authstate.checkusername_failed;
		__sync_fetch_and_add(has_tried ? &shared->refused : &shared->dropped, 1);
	} else if (!has_begun) {
		logins_begin(&forwards, "none", NULL);
	}
	logins_end(&forwards, &unknown);
	process = 0;
}
