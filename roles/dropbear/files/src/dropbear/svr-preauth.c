/* Connections that have not logged in: see svr-preauth.h.
 *
 * There are at most MAX_UNAUTH_CLIENTS of them, and max_processes processes for
 * them. The rules:
 *
 * 1. Where there is no place, new connections wait in the kernel's queue, which knows
 *    no addresses. So after QUEUE_MS (SHORT_QUEUE_MS without a place), and where it is
 *    half full, all are accepted, and for each one that has no process is dropped.
 * 2. The next process is for the address that has the fewest, and of several the one
 *    that got one longest ago; an address that logs in counts as if it never did. An
 *    eighth of them is for addresses that have none. Where all are used, one ends that
 *    is late: its client has not logged in LATE_MS after the process began to wait for
 *    it, and its address has more of them. One of the same address ends only
 *    UNAUTH_SHARE seconds after its last step. An address keeps its equal share.
 * 3. It is always the address with the greatest burden that loses one: see burden();
 *    of several, the one that got a process last.
 *
 * An address of IPv6 is a network, whose computers may have all of its addresses. But
 * few do: so within a network, and only there, whole addresses are compared likewise.
 *
 * Others may have used up the processes before there are max_processes. Then there
 * may be a quarter and two less for a while. */

#include "includes.h"
#include "dbutil.h"
#include "session.h"
#include "svr-door.h"
#include "svr-logins.h"
#include "svr-preauth.h"

#include <poll.h>

/* The rest are the listener's other descriptors */
#if MAX_UNAUTH_CLIENTS + MAX_LISTEN_ADDR + 17 > FD_SETSIZE
#error "MAX_UNAUTH_CLIENTS is too large for select(): see FD_SETSIZE"
#endif

#define TICK_MS 10 /* between two looks where somebody waits for a place */
#define MAX_ACCEPTED 256 /* between two looks at the others */
#define MAX_STARTED 16 /* likewise */
#define QUEUE_MS 250 /* that connections may wait in the kernel's queue */
#define SHORT_QUEUE_MS (UNAUTH_SHARE * 1000 + QUEUE_MS) /* likewise without a free place, where the queue is short and nobody is silent */
#define SWEEP_MS 1000 /* between two looks for what takes too long or too much */
#define LACK_MS 60000 /* that there are fewer processes after one could not be started */
#define REPORT_MS 1000 /* between two reports that there are no more processes */
#define MAX_REPORTS 4 /* of a process, so that a client cannot keep its place by them */
/* Unread bytes in the kernel, of a client that was sent nothing but our version: more
 * than its version and the first packets of its key exchange */
#define MAX_UNREAD 8192
/* Their memory: FIONREAD counts neither what follows an urgent byte nor what came out of order */
#define MAX_UNREAD_MEMORY 65536
#define MIN_CONNS 96 /* places, however few processes: one for each of many addresses */
#define LOGGED_IN 1 /* what a process reports last; 0 is a step of the login */
#define LATE_MS 1000 /* for a login, where another address wants its place */
#define LATE_WEIGHT 8 /* a connection that is late counts as so many that wait */
#define NETWORK_LEN 8 /* bytes of an address of IPv6: one computer may have all addresses of such a network */

struct source {
	unsigned char addr[16]; /* IPv4, IPv6, or the network of IPv6 */
	sa_family_t family;
	unsigned int conns; /* 0 for a free entry */
	unsigned int waiting; /* that have no process */
	unsigned int processes; /* that are not KILLED */
	unsigned int late; /* processes whose clients have not logged in in time */
	unsigned long served; /* when it last got one; 0 if it has logged in since */
};

enum state {
	FREE,
	SILENT, /* the client has sent nothing */
	READY, /* is to get a process */
	STARTED, /* has a process, which is busy */
	WAITS, /* its process waits for the client */
	KILLED /* its process has to end */
};

struct preauth_conn {
	enum state state;
	int fd; /* the socket, or of a process the pipe */
	pid_t pid;
	unsigned int reports;
	int is_late;
	unsigned long number; /* in the order in which they came */
	unsigned long since; /* of its state, or its step of the login, in milliseconds */
	unsigned long began; /* the login: since when its process has waited for the client */
	struct source *source;
	struct source *host; /* with the whole address */
};

/* One more than there are places: a new one, until it is known which one to drop */
#define MAX_CONNS (MAX_UNAUTH_CLIENTS + 1)
static struct preauth_conn conns[MAX_CONNS];
static struct source sources[MAX_CONNS], hosts[MAX_CONNS];
static const int *listeners;
static size_t num_listeners;
static unsigned int wanted_processes = MAX_UNAUTH_PROCESSES; /* max_processes where nothing fails */
static unsigned int max_conns, max_processes, spare_processes;
static unsigned int num_sources, num_conns, num_processes, num_started;
static unsigned int num_in[KILLED + 1]; /* each state, but FREE */
static unsigned long now, last_sweep, last_report, last_failure, last_place, accept_again, num_accepted;
static unsigned long emptied[MAX_LISTEN_ADDR]; /* when all that waited in a queue were accepted */
static unsigned int num_due[MAX_LISTEN_ADDR]; /* that wait in a queue and are to be accepted now */

static void update_now(void) {
	struct timespec ts;
	gettime_wrapper(&ts);
	now = (unsigned long)ts.tv_sec * 1000 + (unsigned long)ts.tv_nsec / 1000000;
}

static void set_max_processes(unsigned int processes) {
	max_processes = MAX(1, processes);
	/* For addresses that have none */
	spare_processes = max_processes / 8;
}

void preauth_parse(const char *processes) {
	if (m_str_to_uint(processes, &wanted_processes) == DROPBEAR_FAILURE) {
		dropbear_exit("Bad max processes '%s'", processes);
	}
}

void preauth_init(const int *socks, size_t count, unsigned int spare_fd) {
	struct rlimit limit;
	size_t i;

	listeners = socks;
	num_listeners = count;
	for (i = 0; i < num_listeners; i++) {
		setnonblocking(listeners[i]);
	}
	max_processes = MAX(1, MIN(wanted_processes, MAX_UNAUTH_CLIENTS));
	/* A process without login costs more than a connection that waits for one */
	max_conns = MIN(max_processes, MAX_UNAUTH_CLIENTS / UNAUTH_CLIENTS_PER_PROCESS)
			* UNAUTH_CLIENTS_PER_PROCESS;
	max_conns = MAX(max_conns, MIN(MIN_CONNS, MAX_UNAUTH_CLIENTS));
	/* Two more are for a pipe, and one for a new connection */
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < max_conns + spare_fd + 3) {
		max_conns = limit.rlim_cur > spare_fd + 4 ? (unsigned int)limit.rlim_cur - (spare_fd + 3) : 1;
		max_processes = MAX(1, MIN(max_processes, max_conns * 3 / 4));
	}
	wanted_processes = max_processes;
	set_max_processes(wanted_processes);
	update_now();
}

static int has_process(const struct preauth_conn *conn) {
	return conn->state == STARTED || conn->state == WAITS || conn->state == KILLED;
}

static void count_source(struct source *source, const struct preauth_conn *conn, unsigned int by) {
	source->conns += conn->state != FREE ? by : 0;
	source->waiting += conn->state == SILENT || conn->state == READY ? by : 0;
	source->processes += conn->state == STARTED || conn->state == WAITS ? by : 0;
	source->late += conn->is_late ? by : 0;
}

/* All that is counted of a connection, before its state changes (-1) and after (1) */
static void count(const struct preauth_conn *conn, int by) {
	num_sources -= conn->source->conns > 0;
	count_source(conn->source, conn, (unsigned int)by);
	count_source(conn->host, conn, (unsigned int)by);
	num_sources += conn->source->conns > 0;
	num_in[conn->state] += (unsigned int)by;
	num_conns += conn->state != FREE ? (unsigned int)by : 0;
	num_processes += has_process(conn) ? (unsigned int)by : 0;
}

static void set_state(struct preauth_conn *conn, enum state state) {
	count(conn, -1);
	conn->state = state;
	conn->is_late = 0;
	count(conn, 1);
}

/* Its client has had the time that it has to itself */
static void note_late(struct preauth_conn *conn) {
	if (conn->state == WAITS && !conn->is_late && now - conn->began >= LATE_MS) {
		count(conn, -1);
		conn->is_late = 1;
		count(conn, 1);
	}
}

void preauth_drop(struct preauth_conn *conn) {
	/* The kernel is to keep nothing of it */
	static const struct linger reset = {1, 0};

	if (!has_process(conn)) {
		setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	}
	if (conn->state == SILENT || conn->state == READY || conn->state == KILLED) {
		logins_dropped();
	}
	close(conn->fd);
	set_state(conn, FREE);
}

/* Whether it came by the door, and keeps its place. Who comes to the ports may have any
 * number of addresses, the user who comes by the door has none: so a share of the places
 * is hers, unless she takes more */
static int is_reserved(const struct preauth_conn *conn) {
	return conn->source->family == AF_UNIX
		&& conn->source->conns <= MAX(spare_processes, (unsigned int)(max_processes > 1));
}

/* Whether its address has at least as many processes as each gets if all get the same:
 * one that has fewer keeps them, however many connections others open */
static int gives_way(const struct preauth_conn *conn) {
	return !is_reserved(conn) && conn->source->processes * num_sources >= max_processes - spare_processes;
}

/* What speaks against an address: connections that wait here, and more so those that do
 * not go on. Not how many are served: a launcher's are as many as a flood's */
static unsigned int burden(const struct source *source) {
	return source->waiting + LATE_WEIGHT * source->late;
}

/* More than 0 where conn's address gives way before that of other */
static int compare_sources(const struct preauth_conn *conn, const struct preauth_conn *other) {
	unsigned int own = burden(conn->source), others = burden(other->source);

	/* Those of two networks say nothing of each other */
	if (own == others && conn->source == other->source) {
		own = burden(conn->host);
		others = burden(other->host);
	}
	return (own > others) - (own < others);
}

/* Whether conn has had its time: for a step of the login where its own address wants the
 * place, for all of it where one does that has fewer processes */
static int is_replaced_by(const struct preauth_conn *conn, const struct preauth_conn *ready) {
	if (!conn->is_late || !gives_way(conn)) {
		return 0;
	}
	return conn->source->processes > ready->source->processes
		|| (conn->source == ready->source && now - conn->since >= UNAUTH_SHARE * 1000UL);
}

/* The process that ends for a connection that is to get one */
static struct preauth_conn *replaced_by(const struct preauth_conn *ready) {
	struct preauth_conn *conn, *found = NULL;
	int order;

	for (conn = conns; conn < conns + MAX_CONNS; conn++) {
		if (is_replaced_by(conn, ready)) {
			order = found == NULL ? 1 : compare_sources(conn, found);
			if (order > 0 || (order == 0 && conn->began < found->began)) {
				found = conn;
			}
		}
	}
	return found;
}

static int is_dropped_before(const struct preauth_conn *conn, const struct preauth_conn *other) {
	int order = compare_sources(conn, other);

	if (is_reserved(conn) != is_reserved(other)) {
		return is_reserved(other);
	}
	if (order != 0) {
		return order > 0;
	}
	if (conn->source->served != other->source->served) {
		return conn->source->served > other->source->served;
	}
	if (conn->state != other->state) {
		return conn->state == SILENT;
	}
	/* A new one may be about to send something; one that waits keeps its turn */
	return conn->state == SILENT ? conn->number < other->number : conn->number > other->number;
}

/* The one that is dropped where there are too many: there is one, the new one at least */
static struct preauth_conn *superfluous(void) {
	struct preauth_conn *conn, *found = NULL;

	for (conn = conns; conn < conns + MAX_CONNS; conn++) {
		if ((conn->state == SILENT || conn->state == READY)
			&& (found == NULL || is_dropped_before(conn, found))) {
			found = conn;
		}
	}
	return found;
}

struct timeval *preauth_select(fd_set *fds, int *maxfd) {
	static struct timeval tv;
	struct preauth_conn *conn;
	size_t i;

	update_now();
	/* Where there is no place for another connection, the queues are looked at again soon */
	for (i = 0; i < num_listeners && now >= accept_again && num_conns < max_conns; i++) {
		dropbear_fd_set(listeners[i], fds);
	}
	for (conn = conns; conn < conns + MAX_CONNS; conn++) {
		if (conn->state != FREE && conn->state != READY) {
			dropbear_fd_set(conn->fd, fds);
			*maxfd = MAX(*maxfd, conn->fd);
		}
	}
	if (num_in[READY] > 0 || num_conns >= max_conns || now < accept_again) {
		tv.tv_sec = 0;
		/* Whoever waits has a process at once where there is one */
		tv.tv_usec = num_in[READY] > 0 && num_processes + spare_processes < max_processes ? 0 : TICK_MS * 1000;
		return &tv;
	}
	if (num_in[SILENT] > 0) {
		tv.tv_sec = SWEEP_MS / 1000;
		tv.tv_usec = 0;
		return &tv;
	}
	return NULL;
}

/* The client has sent something, or has closed the connection */
static void update_silent(struct preauth_conn *conn) {
	char c;
	ssize_t len = recv(conn->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);

	if (len == 1) {
		set_state(conn, READY);
	} else if (len == 0 || (errno != EAGAIN && errno != EINTR)) {
		preauth_drop(conn);
	}
}

/* The process waits for its client, or has logged in or ended */
static void update_process(struct preauth_conn *conn) {
	char buf[64];
	ssize_t len = read(conn->fd, buf, sizeof(buf));

	if (len > 0) {
		if (conn->state == STARTED) {
			conn->began = now;
			set_state(conn, WAITS);
		}
		if (conn->state == WAITS && conn->reports++ < MAX_REPORTS) {
			conn->since = now;
		}
		if (buf[len - 1] == LOGGED_IN) {
			conn->source->served = conn->host->served = 0;
		}
	} else if (len == 0 || errno != EINTR) {
		preauth_drop(conn);
	}
}

/* Nobody reads what its process would answer */
static int is_closed(const struct preauth_conn *conn) {
	struct pollfd sock;

	sock.fd = conn->fd;
	sock.events = POLLRDHUP;
	sock.revents = 0;
	return poll(&sock, 1, 0) > 0;
}

static int takes_too_much(const struct preauth_conn *conn) {
	int unread = 0;
	uint32_t memory[16] = {0}; /* the first is SK_MEMINFO_RMEM_ALLOC */
	socklen_t len = sizeof(memory);

	if (conn->state == SILENT) {
		return now - conn->since >= BANNER_TIMEOUT * 1000UL;
	}
	return conn->state == READY
		&& (now - conn->since >= AUTH_TIMEOUT * 1000UL || is_closed(conn)
			|| (ioctl(conn->fd, FIONREAD, &unread) == 0 && unread > MAX_UNREAD)
			|| (getsockopt(conn->fd, SOL_SOCKET, SO_MEMINFO, memory, &len) == 0
				&& memory[0] > MAX_UNREAD_MEMORY));
}

/* The entry of a table for an address, of whose bytes of IPv6 this many count. Entries without
 * connections stay, those that were served last for longest */
static struct source *find_source(struct source *table, const struct sockaddr_storage *addr, size_t len) {
	unsigned char bytes[16] = {0};
	struct source *source, *found = table; /* there are as many entries as connections: one is free */

	if (addr->ss_family == AF_INET) {
		memcpy(bytes, &((const struct sockaddr_in *)addr)->sin_addr, 4);
	} else if (addr->ss_family == AF_INET6) {
		const struct in6_addr *in6 = &((const struct sockaddr_in6 *)addr)->sin6_addr;
		memcpy(bytes, in6->s6_addr, IN6_IS_ADDR_V4MAPPED(in6) ? sizeof(bytes) : len);
	}
	for (source = table; source < table + MAX_CONNS; source++) {
		if (source->family == addr->ss_family && memcmp(source->addr, bytes, sizeof(bytes)) == 0) {
			return source;
		}
		if (source->conns == 0 && (found->conns > 0 || source->served < found->served)) {
			found = source;
		}
	}
	memset(found, 0x0, sizeof(*found));
	memcpy(found->addr, bytes, sizeof(bytes));
	found->family = addr->ss_family;
	return found;
}

/* Whether those in the kernel's queue may stay there */
static int queue_may_wait(size_t index) {
	struct tcp_info info;
	socklen_t len = sizeof(info);

	if (num_due[index] > 0) {
		return 0;
	}
	memset(&info, 0x0, sizeof(info));
	if (getsockopt(listeners[index], IPPROTO_TCP, TCP_INFO, &info, &len) < 0) {
		return 0; /* the door, where nobody but the user waits */
	}
	/* Of a listening socket these are the queue's length, and its limit. As many processes
	 * as this end within a second, unless their clients do one step after another */
	if (num_in[SILENT] == 0 && info.tcpi_unacked <= max_processes / UNAUTH_SHARE
		&& now - last_place < SHORT_QUEUE_MS) {
		return 1;
	}
	if (now - emptied[index] >= QUEUE_MS) {
		num_due[index] = info.tcpi_unacked; /* not those that come meanwhile */
		return 0;
	}
	return info.tcpi_unacked <= info.tcpi_sacked / 2;
}

/* Returns 0 where there is none */
static int accept_one(int listensock) {
	static const char ident[] = LOCAL_IDENT "\r\n";
	struct preauth_conn *conn;
	struct sockaddr_storage addr;
	socklen_t addrlen = sizeof(addr);
	int sock;

	memset(&addr, 0x0, sizeof(addr));
	sock = accept(listensock, (struct sockaddr*)&addr, &addrlen);
	if (sock < 0) {
		/* Without descriptors or memory it would fail at once again */
		if (errno != EINTR && errno != EAGAIN && errno != ECONNABORTED) {
			accept_again = now + TICK_MS;
		}
		return 0;
	}
	if (sock >= FD_SETSIZE || fcntl(sock, F_SETFD, FD_CLOEXEC) < 0
		|| (addr.ss_family == AF_UNIX && !door_admits(sock))) {
		logins_dropped();
		close(sock);
		return 1;
	}

	for (conn = conns; conn->state != FREE; conn++) {}
	conn->source = find_source(sources, &addr, NETWORK_LEN);
	conn->host = find_source(hosts, &addr, sizeof(struct in6_addr));
	conn->fd = sock;
	conn->pid = 0;
	conn->reports = 0;
	conn->number = num_accepted++;
	conn->since = now;
	set_state(conn, SILENT);
	update_silent(conn);
	/* Who has left already is not to take the place of one who stays */
	if (conn->state == READY && is_closed(conn)) {
		preauth_drop(conn);
	}

	if (num_conns > max_conns) {
		preauth_drop(superfluous());
	}
	/* Clients may wait for the server's version before they send their own */
	if (conn->state != FREE
		&& send(sock, ident, sizeof(ident) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(ident) - 1) {
		preauth_drop(conn);
	}
	return 1;
}

static void accept_all(size_t index) {
	int i;

	for (i = 0; i < MAX_ACCEPTED && now >= accept_again; i++) {
		if (num_conns < max_conns) {
			last_place = now;
		} else if (queue_may_wait(index)) {
			return;
		}
		if (!accept_one(listeners[index])) {
			num_due[index] = 0;
			emptied[index] = now;
			return;
		}
		if (num_due[index] > 0 && --num_due[index] == 0) {
			emptied[index] = now;
		}
	}
}

void preauth_update(const fd_set *fds) {
	struct preauth_conn *conn;
	int sweep;
	size_t i;

	update_now();
	num_started = 0;
	sweep = (now - last_sweep >= SWEEP_MS);
	if (sweep) {
		last_sweep = now;
		if (now - last_failure >= LACK_MS) {
			set_max_processes(wanted_processes);
		}
	}
	for (conn = conns; conn < conns + MAX_CONNS; conn++) {
		if (has_process(conn)) {
			if (FD_ISSET((unsigned int)conn->fd, fds)) {
				update_process(conn);
			}
			note_late(conn);
			continue;
		}
		if (conn->state == SILENT && FD_ISSET((unsigned int)conn->fd, fds)) {
			update_silent(conn);
		}
		if (sweep && takes_too_much(conn)) {
			preauth_drop(conn);
		}
	}
	for (i = 0; i < num_listeners; i++) {
		accept_all(i);
	}
}

/* Have the process end, unless it has logged in or ended */
static void kill_process(struct preauth_conn *conn) {
	struct pollfd ended;
	sigset_t chld, old;

	ended.fd = conn->fd;
	ended.events = 0;
	ended.revents = 0;
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	/* Until SIGCHLD is handled, no other process gets this pid */
	sigprocmask(SIG_BLOCK, &chld, &old);
	if (poll(&ended, 1, 0) == 0) {
		kill(conn->pid, SIGKILL);
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
	set_state(conn, KILLED);
}

static int is_served_before(const struct preauth_conn *conn, const struct preauth_conn *other) {
	if (is_reserved(conn) != is_reserved(other)) {
		return is_reserved(conn);
	}
	if (conn->source->processes != other->source->processes) {
		return conn->source->processes < other->source->processes;
	}
	if (conn->source == other->source && conn->host->processes != other->host->processes) {
		return conn->host->processes < other->host->processes;
	}
	/* In turn, where there are fewer processes than addresses */
	if (conn->source->served != other->source->served) {
		return conn->source->served < other->source->served;
	}
	if (conn->source == other->source && conn->host->served != other->host->served) {
		return conn->host->served < other->host->served;
	}
	return conn->number < other->number;
}

/* The next one to get a process */
static struct preauth_conn *first_ready(void) {
	struct preauth_conn *conn, *found = NULL;

	for (conn = conns; num_in[READY] > 0 && conn < conns + MAX_CONNS; conn++) {
		if (conn->state == READY && (found == NULL || is_served_before(conn, found))) {
			found = conn;
		}
	}
	return found;
}

struct preauth_conn *preauth_next(void) {
	struct preauth_conn *conn, *replaced;
	unsigned int kept;

	while (num_started < MAX_STARTED && (conn = first_ready()) != NULL) {
		kept = conn->source->processes > 0 && !is_reserved(conn) ? spare_processes : 0;
		if (num_processes + kept >= max_processes) {
			while (num_in[KILLED] < MIN(num_in[READY], MAX_STARTED)
				&& (replaced = replaced_by(conn)) != NULL) {
				kill_process(replaced);
			}
			return NULL;
		}
		if (!is_closed(conn)) {
			num_started++;
			return conn;
		}
		preauth_drop(conn);
	}
	return NULL;
}

int preauth_sock(const struct preauth_conn *conn) {
	return conn->fd;
}

void preauth_started(struct preauth_conn *conn, pid_t pid, const int *childpipe) {
	close(childpipe[1]);
	fcntl(childpipe[0], F_SETFD, FD_CLOEXEC);
	close(conn->fd);
	conn->fd = childpipe[0];
	conn->pid = pid;
	conn->since = now;
	conn->source->served = conn->host->served = now;
	set_state(conn, STARTED);
}

void preauth_not_started(struct preauth_conn *conn, const int *childpipe) {
	/* For others, and two for a session: its own, which no longer counts here, and what it starts */
	unsigned int room = num_processes / 4 + 2;

	if (now - last_report >= REPORT_MS) {
		last_report = now;
		dropbear_log(LOG_WARNING, "Error forking: %s", strerror(errno));
	}
	close(childpipe[0]);
	close(childpipe[1]);
	if (num_processes == 0) {
		preauth_drop(conn); /* nothing can give way */
	} else {
		set_max_processes(num_processes > room ? num_processes - room : 1);
		last_failure = now;
	}
}

void preauth_close_others(const struct preauth_conn *own) {
	struct preauth_conn *conn;

	for (conn = conns; conn < conns + MAX_CONNS; conn++) {
		if (conn->state != FREE && conn != own) {
			close(conn->fd);
		}
	}
}

void preauth_waits_for_client(void) {
	if (svr_ses.childpipe >= 0 && !ses.authstate.authdone && write(svr_ses.childpipe, "", 1) < 0) {
		TRACE(("no listener: %s", strerror(errno)))
	}
}

void preauth_logged_in(void) {
	static const char done = LOGGED_IN;

	if (svr_ses.childpipe >= 0 && write(svr_ses.childpipe, &done, 1) < 0) {
		TRACE(("no listener: %s", strerror(errno)))
	}
}
