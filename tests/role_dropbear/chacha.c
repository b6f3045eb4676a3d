/* ChaCha20 of the patched source, included here, against RFC 8439 and against upstream's own code, which is linked as
 * upstream_crypt(). Says what differs, and ends with 1. */

#include "chacha_crypt.c"

#if (defined(__x86_64__) || defined(__aarch64__) || defined(__powerpc64__)) && !defined(CHACHA_FOUR_BLOCKS)
#error "four blocks at once are not compiled in"
#endif

#define LONGEST 1100
#define ROOM (LONGEST + 64)

int upstream_crypt(chacha_state *st, const unsigned char *in, unsigned long inlen, unsigned char *out);

/* RFC 8439, A.2, test vector 2 */
static const char text[] =
	"Any submission to the IETF intended by the Contributor for publication as all or part of an IETF Internet-Draft "
	"or RFC and any statement made within the context of an IETF activity is considered an \"IETF Contribution\". Such "
	"statements include oral statements in IETF sessions, as well as written and electronic communications made at any "
	"time or place, which are addressed to";
static const char encrypted[] =
	"a3fbf07df3fa2fde4f376ca23e82737041605d9f4f4f57bd8cff2c1d4b7955ec2a97948bd3722915c8f3d337f7d37005"
	"0e9e96d647b7c39f56e031ca5eb6250d4042e02785ececfa4b4bb5e8ead0440e20b6e8db09d881a7c6132f420e527950"
	"42bdfa7773d8a9051447b3291ce1411c680465552aa6c405b7764d5e87bea85ad00f8449ed8f72d0d662ab052691ca66"
	"424bc86d2df80ea41f43abf937d3259dc4b2d0dfb48a6c9139ddd7f76966e928e635553ba76c5c879d7b35d49eb2e62b"
	"0871cdac638939e25e8a1e0ef9d5280fa8ca328b351c3c765989cbcf3daa8b6ccc3aaf9f3979c92b3720fc88dc95ed84"
	"a1be059c6499b9fda236e7e818b04b0bc39c1e876b193bfe5569753f88128cc08aaa9b63d1a16f80ef2554d7189c411f"
	"5869ca52c5b83fa36ff216b9c1d30062bebcfd2dc5bce0911934fda79a86f6e698ced759c3ff9b6477338f3da4f9cd85"
	"14ea9982ccafb341b2384dd902f3d1ab7ac61dd29c6f21ba5b862f3730e37cfdc4fd806c22f221";
/* A.1, test vectors 1 and 2: the first two blocks of key 0, nonce 0 */
static const char blocks[] =
	"76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
	"da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
	"9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
	"29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f";

static unsigned char message[ROOM];
static int wrong = 0;

static void say(const char *what, unsigned long length, unsigned long first) {
	printf("%s: %lu bytes, %lu of them first\n", what, length, first);
	wrong = 1;
}

static int equals(const unsigned char *bytes, const char *hex) {
	for (; *hex; hex += 2, bytes++) {
		unsigned int byte;
		if (sscanf(hex, "%2x", &byte) != 1 || byte != *bytes) {
			return 0;
		}
	}
	return 1;
}

static void vectors(void) {
	static const unsigned char zeros[512], key1[32] = {[31] = 1}, nonce2[12] = {[11] = 2};
	unsigned char out[512];
	chacha_state st;

	chacha_setup(&st, key1, 32, 20);
	chacha_ivctr32(&st, nonce2, 12, 1);
	chacha_crypt(&st, (const unsigned char *)text, strlen(text), out);
	if (!equals(out, encrypted)) {
		say("A.2, test vector 2", strlen(text), 0);
	}
	chacha_setup(&st, zeros, 32, 20);
	chacha_ivctr64(&st, zeros, 8, 0);
	chacha_crypt(&st, zeros, sizeof(out), out);
	if (!equals(out, blocks)) {
		say("A.1, test vectors 1 and 2", sizeof(out), 0);
	}
}

/* So many bytes in two calls, from and to these places beyond a multiple of 16: output, what lies behind it, state and
 * answers are to be upstream's. */
static void compare(const char *what, const chacha_state *start, unsigned long length, unsigned long first, int in, int out) {
	_Alignas(16) unsigned char source[ROOM], ours[ROOM], theirs[ROOM];
	chacha_state our_state, their_state;
	int answers[4];

	memcpy(&our_state, start, sizeof(our_state)); /* with what lies between its fields */
	memcpy(&their_state, start, sizeof(their_state));
	memcpy(source + in, message, length);
	memset(ours, 0x55, sizeof(ours));
	memset(theirs, 0x55, sizeof(theirs));
	answers[0] = chacha_crypt(&our_state, source + in, first, ours + out);
	answers[1] = upstream_crypt(&their_state, source + in, first, theirs + out);
	answers[2] = chacha_crypt(&our_state, source + in + first, length - first, ours + out + first);
	answers[3] = upstream_crypt(&their_state, source + in + first, length - first, theirs + out + first);
	if (answers[0] != answers[1] || answers[2] != answers[3] || memcmp(ours, theirs, sizeof(ours)) != 0 ||
	    memcmp(&our_state, &their_state, sizeof(our_state)) != 0) {
		say(what, length, first);
	}
	/* in place */
	our_state = *start;
	chacha_crypt(&our_state, source + in, first, source + in);
	chacha_crypt(&our_state, source + in + first, length - first, source + in + first);
	if (memcmp(source + in, theirs + out, length) != 0 && answers[0] == CRYPT_OK && answers[2] == CRYPT_OK) {
		say("in place", length, first);
	}
}

int main(void) {
	static const int keys[] = {16, 32};
	/* the low word wraps in the first, second, ... call of four blocks, or just not */
	static const ulong64 counters[] = {0, 1, 0xffffffe0, 0xffffffef, 0xfffffff7, 0xfffffffa, 0xfffffffb, 0xfffffffc,
		0xfffffffd, 0xffffffff, 0x7fffffffe, 0x8000000000ULL, ~(ulong64)0 - 5};
	unsigned char key[32], nonce[12];
	unsigned long i, k, length;
	chacha_state st;

	memset(&st, 0, sizeof(st));
	for (i = 0; i < sizeof(message); i++) {
		message[i] = (unsigned char)(i * 167 + (i >> 8) * 59 + 13);
	}
	memcpy(key, message + 500, sizeof(key));
	memcpy(nonce, message + 700, sizeof(nonce));

	vectors();
	for (k = 0; k < 2; k++) {
		for (i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
			for (length = 0; length <= LONGEST; length++) {
				chacha_setup(&st, key, keys[k], 20);
				chacha_ivctr64(&st, nonce, 8, counters[i]);
				compare("counter of 64 bits", &st, length, (length * 31) % (length + 1), length % 16, length / 16 % 16);
				compare("counter of 64 bits", &st, length, 0, length / 16 % 16, length % 16);
				chacha_ivctr32(&st, nonce, 12, (ulong32)counters[i]);
				compare("counter of 32 bits", &st, length, (length * 17) % (length + 1), 15 - length % 16, length / 16 % 16);
			}
		}
	}
	return wrong;
}
