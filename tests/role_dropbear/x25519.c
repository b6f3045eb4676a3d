/* Curve25519 and Ed25519 of the source that is included here, against RFC 7748 and RFC 8032. Prints the results of many
 * other inputs, which are to be the same of the patched source and of upstream's; ends with 1 if it is not the RFCs'. */

#include "curve25519.c"

#ifdef PATCHED
#ifndef __SIZEOF_INT128__
#error "words of 64 bits are not compiled in"
#endif
#endif

static unsigned char seed[32];

/* In place of Dropbear's: what make_key takes as the secret key */
void genrandom(unsigned char *buf, unsigned int len) {
	memcpy(buf, seed, len);
}

static void from_hex(unsigned char *bytes, const char *hex) {
	unsigned int byte;
	for (; *hex && sscanf(hex, "%2x", &byte) == 1; hex += 2) {
		*bytes++ = (unsigned char)byte;
	}
}

static void print(const char *what, const unsigned char *bytes, unsigned int length) {
	printf("%s ", what);
	while (length--) {
		printf("%02x", *bytes++);
	}
	printf("\n");
}

static int differs(const char *what, const unsigned char *bytes, const char *hex) {
	unsigned char wanted[64];
	from_hex(wanted, hex);
	if (memcmp(bytes, wanted, strlen(hex) / 2) == 0) {
		return 0;
	}
	printf("wrong: %s\n", what);
	return 1;
}

static i64 next(void) { /* xorshift */
	static u64 x = 88172645463325252ULL;
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return (i64)(x >> 8);
}

/* RFC 7748, 5.2 */
static int exchanges(void) {
	unsigned char k[32], u[32], q[32];
	int i, wrong = 0;
	from_hex(k, "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4");
	from_hex(u, "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c");
	dropbear_curve25519_scalarmult(q, k, u);
	wrong |= differs("first vector", q, "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552");
	from_hex(k, "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d");
	from_hex(u, "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493");
	dropbear_curve25519_scalarmult(q, k, u);
	wrong |= differs("second vector", q, "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957");
	memset(k, 0, 32);
	k[0] = 9;
	memcpy(u, k, 32);
	for (i = 1; i <= 1000; i++) {
		dropbear_curve25519_scalarmult(q, k, u);
		memcpy(u, k, 32);
		memcpy(k, q, 32);
		if (i == 1) {
			wrong |= differs("one time", k, "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079");
		}
	}
	return wrong | differs("thousand times", k, "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51");
}

/* RFC 8032, 7.1, tests 1 and 2, and signatures of other keys */
static int signatures(void) {
	unsigned char pk[32], sk[32], s[64], message[256] = {0x72};
	unsigned long length = 64;
	int i, wrong = 0;
	from_hex(seed, "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
	dropbear_ed25519_make_key(pk, sk);
	wrong |= differs("first key", pk, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
	dropbear_ed25519_sign(message, 0, s, &length, sk, pk);
	wrong |= differs("first signature", s, "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
		"5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b");
	from_hex(seed, "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
	dropbear_ed25519_make_key(pk, sk);
	wrong |= differs("second key", pk, "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
	dropbear_ed25519_sign(message, 1, s, &length, sk, pk);
	wrong |= differs("second signature", s, "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
		"085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
	for (i = 0; i < 100; i++) {
		seed[i % 32] += (unsigned char)(i + 1);
		dropbear_ed25519_make_key(pk, sk);
		dropbear_ed25519_sign(message, i, s, &length, sk, pk);
		if (dropbear_ed25519_verify(message, i, s, 64, pk) != 0) {
			printf("wrong: a signature is refused\n");
			wrong = 1;
		}
		print("signature", s, 64);
		s[i % 64] ^= 1;
		if (dropbear_ed25519_verify(message, i, s, 64, pk) == 0) {
			printf("wrong: a changed signature is accepted\n");
			wrong = 1;
		}
	}
	return wrong;
}

/* Products of numbers with limbs at their limits, and beyond what sums and differences of products reach */
static void products(void) {
	static const i64 limbs[] = {0, 1, -1, 0xffff, 0x10000, -0xffff, -0x10000, 0x7fff, 0xffed, 0x3ffff, -0x3ffff, 0xffda};
	unsigned char out[32];
	gf a, b, o;
	int i, j, k;
	for (k = 0; k < 20000; k++) {
		for (i = 0; i < 16; i++) {
			j = (int)(next() % 24);
			a[i] = j < 12 ? limbs[j] : j < 18 ? next() % 0x80000 - 0x40000 : limbs[k % 12];
			j = (int)(next() % 24);
			b[i] = j < 12 ? limbs[j] : j < 18 ? next() % 0x80000 - 0x40000 : limbs[k / 12 % 12];
		}
		if (k < 144) {
			for (i = 0; i < 16; i++) {
				a[i] = limbs[k % 12];
				b[i] = limbs[k / 12];
			}
		}
		M(o, a, b);
		pack25519(out, o);
		print("product", out, 32);
		S(a, a);
		pack25519(out, a);
		print("square", out, 32);
	}
}

int main(void) {
	int wrong = exchanges() | signatures();
	products();
	return wrong;
}
