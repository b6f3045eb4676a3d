#ifndef DROPBEAR_SVR_GATE_H_
#define DROPBEAR_SVR_GATE_H_

/* -S stat,ready[,before,mounts,mount,above]: a container runtime starts the server
 * before it has set up the container. So the server listens, says so, and accepts no
 * connection before the container's first process has executed its program. Then it
 * looks whether its root directory has become the container's. Until then nobody can
 * trace it. Without -S nothing here does anything. */

/* Whether the server's user may trace it. It may not from the server's first
 * instruction on if it may not read the program */
void gate_set_traceable(int traceable);
/* Read the argument of -S, or end the server */
void gate_parse(const char *arg);
/* Whether there is -S */
int gate_is_given(void);
/* Return when the process behind the gate runs its own program. Ends the server when
 * that process ends before, or when another directory has become the root */
void gate_wait(void);

#endif
