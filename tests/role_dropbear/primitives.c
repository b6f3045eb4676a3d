/* Reads one request a line, of a name and hexadecimal arguments ("-" is the empty one), and prints its result. Linked with
 * upstream's files, or with those that call libsodium. */

#include "primitives.h"
#include "curve25519.h"
#include "chachapoly.h"
#include "gcm.h"

#define MAX_ARGUMENTS 5
#define MAX_LENGTH 70000
#define MAX_LINE (MAX_ARGUMENTS * 2 * MAX_LENGTH)

static unsigned char seed[32];

/* What make_key takes as the secret key */
void genrandom(unsigned char *buf, unsigned int len) {
	memcpy(buf, seed, len < sizeof(seed) ? len : sizeof(seed));
}

void seedrandom(void) {
}

void dropbear_exit(const char *format, ...) {
	puts(format);
	exit(1);
}

void m_burn(void *data, unsigned int len) {
	memset(data, 0, len);
}

void zeromem(volatile void *data, size_t len) {
	memset((void *)data, 0, len);
}

int constant_time_memcmp(const void *a, const void *b, size_t n) {
	return memcmp(a, b, n);
}

static unsigned char arguments[MAX_ARGUMENTS][MAX_LENGTH];
static unsigned long lengths[MAX_ARGUMENTS];

static void print(const unsigned char *bytes, unsigned long length, char end) {
	while (length--) {
		printf("%02x", *bytes++);
	}
	putchar(end);
}

/* NAME DIRECTION PLACES KEY COUNTER PACKET. PLACES: input and output, as distances from an alignment of 16 bytes; where
 * they are the same, in place. COUNTER is chacha20's sequence number. Of gcm it is the nonce of the packet before, which
 * is one of four zeros. */
static void aead(const struct dropbear_cipher_mode *mode) {
	static _Alignas(16) unsigned char source[MAX_LENGTH + 32], result[MAX_LENGTH + 32];
	const int direction = arguments[0][0] ? LTC_ENCRYPT : LTC_DECRYPT;
	const unsigned long tag = mode->aead_mac->hashsize;
	const unsigned long length = lengths[4] - (direction == LTC_DECRYPT ? tag : 0);
	unsigned char *in = source + arguments[1][0], *out = result + arguments[1][1], before[4 + 16] = {0};
	union {
		dropbear_chachapoly_state chachapoly;
		dropbear_gcm_state gcm;
	} state;
	unsigned int sequence, packet_length = 0;
	int status;

	LOAD32H(sequence, arguments[3]);
	memset(source, 0x55, sizeof(source));
	memset(result, 0x55, sizeof(result));
	if (arguments[1][0] == arguments[1][1]) {
		out = in;
	}
	memcpy(in, arguments[4], lengths[4]);
	if (mode->start(find_cipher("aes"), arguments[3], arguments[2], (int)lengths[2], 0, &state) != CRYPT_OK) {
		puts("key refused");
		return;
	}
	if (mode == &dropbear_mode_gcm) {
		mode->aead_crypt(0, before, before, 4, tag, &state, LTC_ENCRYPT);
	}
	status = mode->aead_getlength(sequence, in, &packet_length, lengths[4], &state);
	printf("%s %08x ", status == CRYPT_OK ? "length" : "short", packet_length);
	status = mode->aead_crypt(sequence, in, out, length, tag, &state, direction);
	if (status != CRYPT_OK) {
		puts("refused");
	} else {
		print(out, length + (direction == LTC_ENCRYPT ? tag : 0), '\n');
	}
}

static void answer(const char *name) {
	unsigned char result[64], public[32];
	unsigned long length = sizeof(result);

	if (strcmp(name, "x25519") == 0) { /* SCALAR POINT */
		dropbear_curve25519_scalarmult(result, arguments[0], arguments[1]);
		print(result, 32, '\n');
	} else if (strcmp(name, "sign") == 0) { /* SEED MESSAGE */
		memcpy(seed, arguments[0], sizeof(seed));
		dropbear_ed25519_make_key(public, result);
		dropbear_ed25519_sign(arguments[1], lengths[1], result, &length, arguments[0], public);
		print(public, sizeof(public), ' ');
		print(result, length, '\n');
	} else if (strcmp(name, "verify") == 0) { /* PUBLIC MESSAGE SIGNATURE */
		puts(dropbear_ed25519_verify(arguments[1], lengths[1], arguments[2], lengths[2], arguments[0]) == 0
			? "valid" : "refused");
	} else {
		aead(strcmp(name, "gcm") == 0 ? &dropbear_mode_gcm : &dropbear_mode_chachapoly);
	}
}

int main(void) {
	static char line[MAX_LINE];

	register_cipher(&aes_desc);
#ifdef PATCHED
	dropbear_sodium_init();
#endif
	while (fgets(line, sizeof(line), stdin)) {
		const char *name = strtok(line, " \n"), *hex;
		unsigned int i, byte;
		for (i = 0; i < MAX_ARGUMENTS && (hex = strtok(NULL, " \n")); i++) {
			for (lengths[i] = 0; sscanf(hex, "%2x", &byte) == 1; hex += 2) {
				arguments[i][lengths[i]++] = (unsigned char)byte;
			}
		}
		answer(name);
	}
	return 0;
}
