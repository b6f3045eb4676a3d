/* The door: see svr-door.h. Whoever connects is untrusted, and may be any user whom
 * mode and directory of the door's name let in. */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "includes.h"
#include "dbutil.h"
#include "svr-door.h"

static int door = -1;
static unsigned int door_uid;

void door_parse(const char *arg) {
	if (sscanf(arg, "%d,%u", &door, &door_uid) != 2 || door < 0) {
		dropbear_exit("Bad -O");
	}
}

/* A security module may have put something else in the place of a descriptor that
 * the program may not use */
static int is_listening_unix_socket(int fd) {
	int domain = 0, listens = 0;
	socklen_t len = sizeof(int);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX
		&& getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens;
}

void door_listen(int *socks, size_t *count, size_t room, int *maxfd) {
	if (door < 0) {
		return;
	}
	if (*count < room && is_listening_unix_socket(door) && fcntl(door, F_SETFD, FD_CLOEXEC) == 0) {
		socks[(*count)++] = door;
		*maxfd = MAX(*maxfd, door);
	} else {
		dropbear_log(LOG_WARNING, "Descriptor %d is not a listening Unix socket", door);
		close(door);
	}
}

int door_admits(int sock) {
	int domain = 0;
	struct ucred peer;
	socklen_t domain_len = sizeof(domain), peer_len = sizeof(peer);

	/* A connection's process has no other Unix socket than one that was accepted there */
	return door >= 0
		&& getsockopt(sock, SOL_SOCKET, SO_DOMAIN, &domain, &domain_len) == 0 && domain == AF_UNIX
		&& getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &peer_len) == 0 && peer.uid == door_uid;
}
