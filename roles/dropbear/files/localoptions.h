/* What this build changes of Dropbear's defaults (src/default_options.h says what each option does).
 *
 * The daemon made here serves one user in one container; ssh_hook starts it.
 * DROPBEAR_REEXEC stays on: fresh memory layout for each session.
 */

/* The daemon serves the one user whom it runs as, root too, and never changes uid, gid or groups: a session
 * has what the daemon was started with, and needs no capability. The second option is our own patch's. */
#define DROPBEAR_SVR_MULTIUSER 0
#define DROPBEAR_SVR_OWN_USER_ONLY 1

/* X25519, Ed25519, ChaCha20-Poly1305 and AES-GCM of libsodium (our own patch's option). A build without libsodium gives
 * -DDROPBEAR_LIBSODIUM=0 and has upstream's own code, whose AES-GCM is slow. */
#ifndef DROPBEAR_LIBSODIUM
#define DROPBEAR_LIBSODIUM 1
#endif
#define DROPBEAR_ENABLE_GCM_MODE DROPBEAR_LIBSODIUM

/* Speed over size: ciphers and hashes are about twice as fast. */
#define DROPBEAR_SMALL_CODE 0

/* Both post-quantum key exchanges. The client's order decides: OpenSSH prefers mlkem768x25519 since 10.0. Releases 9.0
 * to 9.9 prefer sntrup761x25519, which needs more time. */
#define DROPBEAR_MLKEM768 1
#define DROPBEAR_SNTRUP761 1

/* A parallel launcher opens hundreds of connections at once, all from one address. Whoever reaches the port can open
 * as many: see docs/security.md. Each connection is a descriptor of the listener's, which select() has to hold. ssh_hook
 * gives fewer processes (-U) where the container's limits are low. A client sends its version at once, but may read keys
 * from a slow home before; a login takes some hundredths of a second, and a busy node's takes seconds. */
#define MAX_UNAUTH_CLIENTS 960
#define MAX_UNAUTH_PROCESSES 768
#define UNAUTH_SHARE 2
#define BANNER_TIMEOUT 20
#define AUTH_TIMEOUT 60

/* The kernel's queue of connections that the daemon has yet to accept, at most net.core.somaxconn (4096; 128 before Linux
 * 5.4). If it is full, the kernel drops a client's first packet, which is sent again after one second, and after three. */
#define DROPBEAR_LISTEN_BACKLOG 4096

/* With upstream's 24 kB a session over a line of 10 ms is limited to 2 MB/s, with these 4 MB to 400. Memory is taken
 * as it fills, where the reader is slower than the sender, and only after login. */
#define DEFAULT_RECV_WINDOW 4194304
#define TRANS_MAX_PAYLOAD_LEN 32768

/* The longest argument that Linux passes to a program (MAX_ARG_STRLEN): a command is an argument of the shell. Packets
 * of this size are accepted after login only. */
#define MAX_CMD_LEN 131071

/* Keys only. */
#define DROPBEAR_SVR_PASSWORD_AUTH 0

/* Code that nothing here uses. */
#define DO_MOTD 0
#define DROPBEAR_X11FWD 0
#define INETD_MODE 0
#define DROPBEAR_DELAY_HOSTKEY 0

/* A session's PATH is that of the daemon, which ssh_hook starts with -e and the container's environment. */
#define DEFAULT_PATH (getenv("PATH") ? getenv("PATH") : "/usr/local/bin:/usr/bin:/bin")
#define DEFAULT_ROOT_PATH (getenv("PATH") ? getenv("PATH") : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")

/* A path inside the container: this directory is mounted there. */
#define SFTPSERVER_PATH "/opt/oci-hooks/ssh/dropbear/bin/sftp-server"

/* OpenSSH's sftp-server expects the two paths of SSH_FXP_SYMLINK in the opposite order to the protocol's draft. libssh
 * and asyncssh send them so if the server's version contains "OpenSSH": a comment names the program behind "sftp".
 * libssh also requires numbers at fixed distances from the "O": 8 and 10 (releases before 0.11.2), or 8 and 11.
 * Workarounds for old releases, in other clients, and scanners look for "OpenSSH_", which does not match. */
#define IDENT_VERSION_PART "_" DROPBEAR_VERSION " OpenSSH: 10 3"
