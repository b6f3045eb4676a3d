/* svr-preauth.c of Dropbear, without a network: a flood comes from the address that the first argument names, and when
 * it has all places and processes, a client from the second. Prints whether that one is served or dropped. The address
 * may be "door", for the user at the Unix socket, or "stranger", for somebody else there. */

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

#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX_UNAUTH_CLIENTS 32
#define MAX_UNAUTH_PROCESSES 8
#define UNAUTH_CLIENTS_PER_PROCESS 4
#define UNAUTH_SHARE 2
#define BANNER_TIMEOUT 20
#define AUTH_TIMEOUT 60
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

#define ROUNDS 500
#define ROUND_MS 10
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
static const char *address;
static int client, waits; /* the client's end of the connection that waits to be accepted, if one does */

static void gettime_wrapper(struct timespec *now) {
	now->tv_sec = clock_ms / 1000;
	now->tv_nsec = clock_ms % 1000 * 1000000;
}

static int is_at_door(const char *source) {
	return strcmp(source, "door") == 0 || strcmp(source, "stranger") == 0;
}

static int accept_client(struct sockaddr *addr) {
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)addr;
	struct sockaddr_in *in = (struct sockaddr_in *)addr;
	int ends[2];

	if (!waits) {
		errno = EAGAIN;
		return -1;
	}
	waits = 0;
	if (is_at_door(address)) {
		addr->sa_family = AF_UNIX;
	} else {
		addr->sa_family = strchr(address, ':') ? AF_INET6 : AF_INET;
		inet_pton(addr->sa_family, address, strchr(address, ':') ? (void *)&in6->sin6_addr : (void *)&in->sin_addr);
	}
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0 || write(ends[1], "S", 1) != 1) {
		abort();
	}
	client = ends[1];
	return ends[0];
}

static int get_option(int sock, int level, int name, void *value, socklen_t *len) {
	if (level == IPPROTO_TCP && name == TCP_INFO && sock == PORT) {
		struct tcp_info *queue = value;
		queue->tcpi_unacked = 1000;
		queue->tcpi_sacked = 1000;
		return 0;
	}
	if (level == SOL_SOCKET && (name == SO_DOMAIN || name == SO_PEERCRED)) {
		return getsockopt(sock, level, name, value, len);
	}
	return -1;
}

static unsigned int counted; /* connections that were refused or dropped */

static void logins_dropped(void) {
	counted++;
}

#define accept(sock, addr, len) accept_client(addr)
#define getsockopt(sock, level, name, value, len) get_option(sock, level, name, value, len)
#define kill(pid, number) 0
#include "svr-door.c"
#include "svr-preauth.c"

static int is_dropped(int sock) {
	char data[64];
	ssize_t len;

	while ((len = recv(sock, data, sizeof(data), MSG_DONTWAIT)) > 0) {}
	return len == 0 || errno != EAGAIN;
}

/* Returns the client's end, or -1 where it was not accepted */
static int connect_from(const char *source) {
	int listener = is_at_door(source) ? DOOR : PORT;

	address = source;
	waits = 1;
	accept_all(listener);
	return waits ? -1 : client;
}

/* Let a while pass, with a flood, and start processes, which wait for their clients. Returns whether `sock` has one */
static int pass_round(const char *flood, int sock) {
	static int floods[FD_SETSIZE], count;
	struct preauth_conn *conn;
	struct timeval none = {0, 0};
	int i, maxfd = 0, started = 0, ends[2], given[2];
	fd_set fds;

	clock_ms += ROUND_MS;
	update_now();
	for (i = 0; i < 2; i++) {
		int end = connect_from(flood);
		if (end >= 0) {
			floods[count++] = end;
		}
	}
	for (i = 0; i < count; i++) {
		if (is_dropped(floods[i])) {
			close(floods[i]);
			floods[i--] = floods[--count];
		}
	}
	FD_ZERO(&fds);
	preauth_select(&fds, &maxfd);
	FD_CLR(PORT, &fds);
	FD_CLR(DOOR, &fds);
	select(maxfd + 1, &fds, NULL, NULL, &none);
	preauth_update(&fds);
	while ((conn = preauth_next()) != NULL) {
		if (sock >= 0 && send(preauth_sock(conn), "P", 1, MSG_NOSIGNAL) == 1) {
			char data;
			started |= recv(sock, &data, 1, MSG_DONTWAIT) == 1 && data == 'P';
		}
		if (pipe(ends) < 0) {
			abort();
		}
		given[0] = ends[0];
		given[1] = dup(ends[1]); /* the process keeps the other */
		preauth_started(conn, 0, given);
		set_state(conn, WAITS);
	}
	for (conn = conns; conn < conns + MAX_CONNS; conn++) {
		if (conn->state == KILLED) {
			preauth_drop(conn);
		}
	}
	return started;
}

int main(int argc, char **argv) {
	static const int listening[] = {PORT, DOOR};
	char words[16];
	int i, sock;

	signal(SIGPIPE, SIG_IGN);
	snprintf(words, sizeof(words), "%d,%u", DOOR, getuid() + (strcmp(argv[argc - 1], "stranger") == 0));
	door_parse(words);
	preauth_init(listening, 2, 3);
	for (i = 0; i < ROUNDS; i++) {
		pass_round(argv[1], -1);
	}
	i = counted;
	sock = connect_from(argv[argc - 1]);
	if (strcmp(argv[argc - 1], "stranger") == 0 && counted != i + 1U) {
		abort();
	}
	for (i = 0; sock >= 0 && i < ROUNDS; i++) {
		if (is_dropped(sock)) {
			puts("dropped");
			return 0;
		}
		if (pass_round(argv[1], sock)) {
			puts("served");
			return 0;
		}
	}
	puts("waits");
	return 0;
}
