/* Linked between Dropbear and libsodium by the linker's --wrap: what Dropbear calls of libsodium's cryptography ends the
 * process unless sodium_init() was called in it before. With FORGET in the environment it counts as not called, and with
 * NO_AES the processor as one without AES instructions. */

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BYTES const unsigned char *
#define SIZE unsigned long long

static int initialised;

int __real_sodium_init(void);

int __wrap_sodium_init(void) {
	initialised = getenv("FORGET") == NULL;
	return __real_sodium_init();
}

int __real_crypto_aead_aes256gcm_is_available(void);

int __wrap_crypto_aead_aes256gcm_is_available(void) {
	return getenv("NO_AES") == NULL && __real_crypto_aead_aes256gcm_is_available();
}

#define WRAP(name, parameters, arguments) \
	int __real_##name parameters; \
	int __wrap_##name parameters { \
		if (!initialised) { \
			fputs(#name " before sodium_init\n", stderr); \
			_exit(99); \
		} \
		return __real_##name arguments; \
	}

WRAP(crypto_scalarmult_curve25519, (unsigned char *q, BYTES n, BYTES p), (q, n, p))
WRAP(crypto_scalarmult_curve25519_base, (unsigned char *q, BYTES n), (q, n))
WRAP(crypto_sign_ed25519_seed_keypair, (unsigned char *pk, unsigned char *sk, BYTES seed), (pk, sk, seed))
WRAP(crypto_sign_ed25519_detached, (unsigned char *sig, SIZE *siglen, BYTES m, SIZE mlen, BYTES sk),
	(sig, siglen, m, mlen, sk))
WRAP(crypto_sign_ed25519_verify_detached, (BYTES sig, BYTES m, SIZE mlen, BYTES pk), (sig, m, mlen, pk))
WRAP(crypto_stream_chacha20, (unsigned char *c, SIZE clen, BYTES n, BYTES k), (c, clen, n, k))
WRAP(crypto_stream_chacha20_xor, (unsigned char *c, BYTES m, SIZE mlen, BYTES n, BYTES k), (c, m, mlen, n, k))
WRAP(crypto_stream_chacha20_xor_ic, (unsigned char *c, BYTES m, SIZE mlen, BYTES n, uint64_t ic, BYTES k),
	(c, m, mlen, n, ic, k))
WRAP(crypto_aead_aes256gcm_beforenm, (crypto_aead_aes256gcm_state *ctx, BYTES k), (ctx, k))
WRAP(crypto_aead_aes256gcm_encrypt_detached_afternm, (unsigned char *c, unsigned char *mac, SIZE *maclen, BYTES m,
	SIZE mlen, BYTES ad, SIZE adlen, BYTES nsec, BYTES npub, const crypto_aead_aes256gcm_state *ctx),
	(c, mac, maclen, m, mlen, ad, adlen, nsec, npub, ctx))
WRAP(crypto_aead_aes256gcm_decrypt_detached_afternm, (unsigned char *m, unsigned char *nsec, BYTES c, SIZE clen,
	BYTES mac, BYTES ad, SIZE adlen, BYTES npub, const crypto_aead_aes256gcm_state *ctx),
	(m, nsec, c, clen, mac, ad, adlen, npub, ctx))
WRAP(crypto_onetimeauth_poly1305, (unsigned char *out, BYTES in, SIZE inlen, BYTES k), (out, in, inlen, k))
WRAP(crypto_onetimeauth_poly1305_verify, (BYTES h, BYTES in, SIZE inlen, BYTES k), (h, in, inlen, k))
