#ifndef DROPBEAR_SVR_DOOR_H_
#define DROPBEAR_SVR_DOOR_H_

#include <stddef.h>

/* -O door,uid: a listening Unix socket, the door, that is open as a descriptor.
 * Its name is outside of the container. Only the user uid, as the kernel reports
 * it in the server's user namespace, logs in there, and needs no key. No session
 * inherits the door. */

/* Read the argument of -O, or end the server */
void door_parse(const char *arg);
/* Add the door to the *count sockets that the listener has, if there is one. Without
 * room for it, or when the descriptor is something else, the ports serve on, with a
 * warning */
void door_listen(int *socks, size_t *count, size_t room, int *maxfd);
/* Whether the user has connected to the door by this socket. Each process asks the
 * kernel, so nothing has to survive the execution of a connection's process */
int door_admits(int sock);

#endif
