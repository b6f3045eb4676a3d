/* A client's packets before the login, in place of upstream's fuzzer-preauth_nomaths and its mutator. An input is a byte
 * that decides chance (how much each read and write takes, and which ones fail) and parts between SEPARATORs. Each part is
 * the payload of a packet, whose lengths and padding are right whatever the payload is; a part that begins with RAW
 * is sent as it is. An odd first byte has the key exchange succeed before, so that most inputs reach the login. */

#include "fuzz.h"
#include "session.h"

#define MOST_BYTES 4096
#define BLOCK 16 /* of AES; without a cipher it is 8 */
#define LEAST_PADDING 4
#define RAW 0xff /* no message has this number */
#define SEPARATOR "\n--\n"
#define SEPARATOR_LEN 4
#define KEX_NAMES "\0\0\0\021curve25519-sha256" "\0\0\0\013ssh-ed25519" "\0\0\0\012aes128-ctr" "\0\0\0\012aes128-ctr" \
	"\0\0\0\015hmac-sha2-256" "\0\0\0\015hmac-sha2-256" "\0\0\0\004none" "\0\0\0\004none" "\0\0\0\0" "\0\0\0\0"
#define ZEROS "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" /* 16 */

/* Each part may be empty, and its packet has up to 2 * BLOCK bytes that are not in the input */
static unsigned char stream[MOST_BYTES + MOST_BYTES / SEPARATOR_LEN * 2 * BLOCK + 1024];
static size_t stream_len;

static void add(const void *bytes, size_t len) {
	if (len > sizeof(stream) - stream_len) {
		abort();
	}
	memcpy(stream + stream_len, bytes, len);
	stream_len += len;
}

static void add_packet(const void *payload, size_t len) {
	size_t padding = BLOCK - (5 + len) % BLOCK;
	size_t packet;

	padding += padding < LEAST_PADDING ? BLOCK : 0;
	packet = 1 + len + padding;
	add((unsigned char[]){0, 0, (unsigned char)(packet >> 8), (unsigned char)packet, (unsigned char)padding}, 5);
	add(payload, len);
	add(ZEROS ZEROS, padding);
}

static void exchange_keys(void) {
	static const char init[] = "\024" ZEROS KEX_NAMES "\0\0\0\0"; /* and the zero that ends it: no guess follows */
	static const char public_key[] = "\036\0\0\0\040\011" ZEROS ZEROS;

	add_packet(init, sizeof(init));
	add_packet(public_key, 5 + 32);
	add_packet("\025", 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	const uint8_t *end = data + size, *next;
	char version[32];

	if (size == 0 || size > MOST_BYTES) {
		return 0;
	}
	stream_len = 0;
	/* Upstream's chance depends on the first 16 bytes */
	add(version, (size_t)snprintf(version, sizeof(version), "SSH-2.0-fuzz%02x\r\n", *data));
	if (*data % 2 == 1) {
		exchange_keys();
	}
	for (data++; data < end; data = MIN(next + SEPARATOR_LEN, end)) {
		next = memmem(data, (size_t)(end - data), SEPARATOR, SEPARATOR_LEN);
		next = next != NULL ? next : end;
		if (data < next && *data == RAW) {
			add(data + 1, (size_t)(next - data) - 1);
		} else {
			add_packet(data, (size_t)(next - data));
		}
	}
	fuzz_run_server(stream, stream_len, 1, 0);
	/* Patch 08-floods: the next one ends the connection */
	if (ses.preauth_packets > MAX_PREAUTH_PACKETS + 1) {
		abort();
	}
	return 0;
}
