/* svr-preauth.c of Dropbear without a network and with a clock of its own, so that a busy machine changes nothing.
 *
 *   preauth KIND PROCESSES EACH AT_ONCE USER FLOOD...
 *   preauth SEED PROCESSES EACH 0 USER FLOOD...
 *
 * EACH connections come from each address FLOOD, and again as soon as the server has dropped them: of a KIND "silent" they
 * send nothing, of "waits" they stop after their first bytes, and of "steps" they do a step of the login every 0.9 s. With
 * a SEED, a number, they and their processes do anything at any time, and processes cannot be started now and then.
 * Meanwhile a user logs in from another address, AT_ONCE times at the same time, in ROUNDS of a flood's life. An address
 * may be "door", for the user at the Unix socket, or "stranger", for somebody else there.
 *
 * Prints how long the slowest login took, in milliseconds of that clock, or "dropped". After each look at the connections
 * it counts again what the server counts, and ends in abort() where that differs. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "localoptions.h"

#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define UNAUTH_CLIENTS_PER_PROCESS 4
#define MAX_LISTEN_ADDR 2
#define LOCAL_IDENT "SSH-2.0-server"

#define DROPBEAR_SUCCESS 0
#define DROPBEAR_FAILURE -1
#define TRACE(text)
#define m_str_to_uint(text, value) (*(value) = (unsigned int)atoi(text), DROPBEAR_SUCCESS)
#define dropbear_fd_set(fd, set) FD_SET(fd, set)
#define dropbear_exit(...) abort()
#define dropbear_log(priority, ...) ((void)(priority))
#define setnonblocking(sock) ((void)(sock)) /* nobody opens the listening sockets */

#define ROUND_MS 10
#define STEP_MS 900   /* between two steps of a flood that goes on */
#define LOGIN_MS 300  /* that a user's login takes, in three steps */
#define ROUNDS 6      /* in which the user logs in */
#define FLOOD_MS 3000 /* before the first of them */
#define PAUSE_MS 370  /* between two of them */
#define PATIENCE 2000 /* looks until a login has taken too long */
#define RESEND_MS 1000 /* after which a lost SYN is sent again; twice as long if that is lost too */
#define MAX_CLIENTS 16384
#define PORT 0 /* the listening sockets */
#define DOOR 1

static struct {
	struct {
		int authdone;
	} authstate;
} ses;
static struct {
	int childpipe;
} svr_ses;

static unsigned long clock_ms = 1000000;

/* The client's side of each connection, and its process */
static struct client {
	const char *address;
	int is_user;
	int sock;      /* -1 until it is accepted, and when it has ended */
	int is_closed; /* by the server, before there was a process */
	int process;   /* the end of the pipe that its process has, or -1 */
	unsigned long changed;
	unsigned long next_syn; /* not before */
	int lost_syns;
	int steps;
	enum { AWAY, QUEUED, OPEN, DROPPED, IS_IN } state;
} clients[MAX_CLIENTS];
static int num_clients;
static int queues[2][MAX_CLIENTS + 1], lengths[2]; /* of each listening socket, by client */
static struct client *accepted[FD_SETSIZE];	   /* by the server's descriptor */
static unsigned int counted;			   /* connections that were refused or dropped */

static void gettime_wrapper(struct timespec *now) {
	now->tv_sec = clock_ms / 1000;
	now->tv_nsec = clock_ms % 1000 * 1000000;
}

static void logins_dropped(void) { counted++; }

/* Away from the descriptors that select() can hold: these are the server's */
static int move_high(int fd) {
	int high = fcntl(fd, F_DUPFD_CLOEXEC, 4096);

	if (high < 0) {
		abort();
	}
	close(fd);
	return high;
}

static int queue_of(const struct client *client) {
	return strcmp(client->address, "door") == 0 || strcmp(client->address, "stranger") == 0 ? DOOR : PORT;
}

static void come(struct client *client) {
	int queue = queue_of(client);

	if (clock_ms < client->next_syn) {
		return;
	}
	if (lengths[queue] < DROPBEAR_LISTEN_BACKLOG) {
		queues[queue][lengths[queue]++] = (int)(client - clients);
		client->state = QUEUED;
		client->lost_syns = 0;
	} else {
		client->next_syn = clock_ms + (RESEND_MS << client->lost_syns++);
	}
}

static const char *kind;
static int is_random;

/* Once in so many times */
static int at_random(int times) { return is_random && rand() % times == 0; }

static int accept_client(int queue, struct sockaddr *addr) {
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)addr;
	struct sockaddr_in *in = (struct sockaddr_in *)addr;
	struct client *client;
	const char *address;
	int ends[2];

	if (lengths[queue] == 0) {
		errno = EAGAIN;
		return -1;
	}
	client = &clients[queues[queue][0]];
	memmove(queues[queue], queues[queue] + 1, (size_t)--lengths[queue] * sizeof(int));
	address = client->address;
	if (queue == DOOR) {
		addr->sa_family = AF_UNIX;
	} else {
		addr->sa_family = strchr(address, ':') ? AF_INET6 : AF_INET;
		inet_pton(addr->sa_family, address, strchr(address, ':') ? (void *)&in6->sin6_addr : (void *)&in->sin_addr);
	}
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0) {
		abort();
	}
	if ((client->is_user || (is_random ? at_random(2) : strcmp(kind, "silent") != 0)) && write(ends[1], "S", 1) != 1) {
		abort();
	}
	client->sock = move_high(ends[1]);
	client->process = -1;
	client->is_closed = 0;
	client->steps = 0;
	client->state = OPEN;
	accepted[ends[0]] = client;
	return ends[0];
}

static int get_option(int sock, int level, int name, void *value, socklen_t *len) {
	if (level == IPPROTO_TCP && name == TCP_INFO && sock == PORT) {
		struct tcp_info *queue = value;
		queue->tcpi_unacked = (unsigned int)lengths[PORT];
		queue->tcpi_sacked = DROPBEAR_LISTEN_BACKLOG;
		return 0;
	}
	if (level == SOL_SOCKET && (name == SO_DOMAIN || name == SO_PEERCRED)) {
		return getsockopt(sock, level, name, value, len);
	}
	return -1;
}

/* A process ends, or its client has logged in */
static void end_process(struct client *client) {
	if (client->process >= 0) {
		close(client->process);
		client->process = -1;
	}
}

static int kill_client(pid_t pid) {
	end_process(&clients[pid - 1]);
	return 0;
}

/* The server closes a connection, or a pipe. It also does so when the connection's process has the connection */
static int close_for_server(int fd) {
	struct client *client = accepted[fd];

	if (client != NULL) {
		client->is_closed = client->steps == 0;
		accepted[fd] = NULL;
	}
	return close(fd);
}

#define accept(sock, addr, len) accept_client(sock, addr)
#define close(fd) close_for_server(fd)
#define getsockopt(sock, level, name, value, len) get_option(sock, level, name, value, len)
#define kill(pid, number) kill_client(pid)
#include "svr-door.c"
#include "svr-preauth.c"
#undef kill
#undef close

static void report(struct client *client, void (*what)(void)) {
	svr_ses.childpipe = client->process;
	what();
}

static void step(struct client *client) {
	client->changed = clock_ms;
	client->steps++;
	report(client, preauth_waits_for_client);
}

/* What a client, or its process, does meanwhile */
static void go_on(struct client *client) {
	if (client->state != OPEN) {
		return;
	}
	if (client->steps > 0 && client->process >= 0 && at_random(50)) {
		end_process(client);
	} else if (client->steps == 0 && at_random(100)) {
		shutdown(client->sock, SHUT_RDWR); /* it goes, or sends first */
	} else if (client->steps == 0 && at_random(20)) {
		send(client->sock, "S", 1, MSG_NOSIGNAL);
	}
	if (client->steps == 0 ? client->is_closed : client->process < 0) {
		close(client->sock);
		client->sock = -1;
		client->state = DROPPED;
	} else if (client->process < 0 || (client->steps > 1 && !client->is_user && strcmp(kind, "steps") != 0 && !at_random(30))) {
		return;
	} else if (client->steps <= 1) { /* it has begun, and then it waits for its client */
		step(client);
	} else if (client->is_user && clock_ms - client->changed >= LOGIN_MS / 3) {
		if (client->steps < 4) {
			step(client);
			return;
		}
		report(client, preauth_logged_in);
		end_process(client);
		close(client->sock);
		client->sock = -1;
		client->state = IS_IN;
	} else if (!client->is_user && (is_random || clock_ms - client->changed >= STEP_MS)) {
		step(client);
	}
}

/* None is lost, none is counted twice, and there are no more than there may be */
static void check_counts(void) {
	static struct source counts[MAX_CONNS];
	unsigned int in[KILLED + 1] = {0}, addresses = 0, connections = 0;
	struct preauth_conn *conn;
	struct source *source;

	memset(counts, 0, sizeof(counts));
	for (source = sources; source < sources + MAX_CONNS; source++) {
		addresses += source->conns > 0;
		connections += source->conns;
	}
	for (conn = conns; conn < conns + MAX_CONNS; conn++) {
		in[conn->state]++;
		if (conn->state == FREE) {
			continue;
		}
		if (conn->fd < 0 || conn->fd >= FD_SETSIZE || (is_random && fcntl(conn->fd, F_GETFD) < 0)) {
			abort();
		}
		counts[conn->source - sources].conns++;
		counts[conn->source - sources].waiting += conn->state == SILENT || conn->state == READY;
		counts[conn->source - sources].processes += conn->state == STARTED || conn->state == WAITS;
		counts[conn->source - sources].late += conn->is_late;
	}
	for (source = sources; source < sources + MAX_CONNS; source++) {
		const struct source *count = &counts[source - sources];
		if (source->conns != count->conns || source->waiting != count->waiting
			|| source->processes != count->processes || source->late != count->late) {
			abort();
		}
	}
	if (connections != MAX_CONNS - in[FREE] || connections != num_conns || num_conns > max_conns
		|| addresses != num_sources || num_processes != in[STARTED] + in[WAITS] + in[KILLED]
		|| num_processes > wanted_processes || num_in[READY] != in[READY] || num_in[KILLED] != in[KILLED]) {
		abort();
	}
}

/* Let a while pass, and start processes, which wait for their clients */
static void pass_round(void) {
	struct preauth_conn *conn;
	struct timeval none = {0, 0};
	int i, maxfd = 0, ends[2];
	fd_set fds;

	clock_ms += ROUND_MS;
	for (i = 0; i < num_clients; i++) {
		go_on(&clients[i]);
		if (!clients[i].is_user && (clients[i].state == AWAY || clients[i].state == DROPPED)) {
			come(&clients[i]);
		}
	}
	FD_ZERO(&fds);
	preauth_select(&fds, &maxfd);
	FD_CLR(PORT, &fds);
	FD_CLR(DOOR, &fds);
	select(maxfd + 1, &fds, NULL, NULL, &none);
	preauth_update(&fds);
	check_counts();
	while ((conn = preauth_next()) != NULL) {
		struct client *client = accepted[preauth_sock(conn)];
		if (pipe(ends) < 0) {
			abort();
		}
		if (at_random(200)) {
			errno = EAGAIN;
			preauth_not_started(conn, ends);
			continue;
		}
		client->process = move_high(dup(ends[1])); /* the server closes the other */
		client->steps = 1;
		preauth_started(conn, (pid_t)(client - clients) + 1, ends);
	}
	check_counts();
}

static void add_clients(const char *address, int count, int is_user) {
	int i;

	for (i = 0; i < count; i++) {
		if (num_clients == MAX_CLIENTS) {
			abort();
		}
		clients[num_clients++] = (struct client){.address = address, .is_user = is_user, .sock = -1, .process = -1};
	}
}

/* Returns how long the slowest login takes, or -1 where one is dropped */
static long log_in(struct client *users, int count) {
	unsigned long begun = clock_ms;
	int i, left = count;

	for (i = 0; i < count; i++) {
		users[i].steps = 0;
		users[i].state = AWAY;
	}
	for (i = 0; left > 0 && i < PATIENCE; i++) {
		struct client *user;
		for (user = users; user < users + count; user++) {
			if (user->state == AWAY) {
				come(user);
			}
		}
		pass_round();
		for (left = 0, user = users; user < users + count; user++) {
			if (user->state == DROPPED) {
				return -1;
			}
			left += user->state != IS_IN;
		}
	}
	return (long)(clock_ms - begun);
}

int main(int argc, char **argv) {
	static const int listening[] = {PORT, DOOR};
	struct rlimit limit;
	char words[16];
	long slowest = 0, took;
	int i, pause, at_once = atoi(argv[4]);

	kind = argv[1];
	is_random = atoi(kind) > 0;
	srand((unsigned int)atoi(kind));
	signal(SIGPIPE, SIG_IGN);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	snprintf(words, sizeof(words), "%d,%u", DOOR, getuid() + (strcmp(argv[5], "stranger") == 0));
	door_parse(words);
	preauth_parse(argv[2]);
	preauth_init(listening, 2, 3);
	add_clients(argv[5], at_once, 1);
	for (i = 6; i < argc; i++) {
		add_clients(argv[i], atoi(argv[3]), 0);
	}
	for (i = 0; i < at_once; i++) {
		clients[i].state = DROPPED; /* until the flood is complete */
	}
	for (pause = 0; pause < FLOOD_MS; pause += ROUND_MS) {
		pass_round();
	}
	for (i = 0; at_once > 0 && i < ROUNDS; i++) {
		took = log_in(clients, at_once);
		if (took < 0) {
			printf("dropped\n");
			return 0;
		}
		slowest = MAX(slowest, took);
		for (pause = 0; pause < PAUSE_MS; pause += ROUND_MS) {
			pass_round();
		}
	}
	printf("%ld\n", slowest);
	return 0;
}
