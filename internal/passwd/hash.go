package passwd

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// Bounds on what a hash may cost. A line of the file that asks for more is
// refused when it is read: anybody who reaches the port could otherwise make
// the server spend that much, by naming the user.
const (
	maxBcryptCost   = 16       // about four seconds of one core
	maxArgonMemory  = 1 << 18  // KiB: 256 MiB
	maxArgonWork    = 16 << 18 // KiB times passes: sixteen passes over the most memory
	maxArgonThreads = 64
	maxPassword     = 4096 // bytes; more is refused without hashing
)

// What New uses: the first choice of OWASP for argon2id, 19 MiB and two
// passes, some 20 ms of one core.
const (
	newMemory = 19 << 10 // KiB
	newPasses = 2
	newSalt   = 16
	newKey    = 32
)

// A Hash is a stored password: what is needed to check one, and never the way
// back, unless its scheme is PLAIN. The zero Hash fits no password.
type Hash struct {
	scheme scheme
	digest []byte // PLAIN: its SHA-256; BLF-CRYPT: the text; ARGON2ID: the key
	salt   []byte
	memory uint32 // KiB
	passes uint32
	lanes  uint8
}

type scheme uint8

const (
	schemeNone scheme = iota
	schemePlain
	schemeBcrypt
	schemeArgon2id
	schemeArgon2i
)

// Schemes lists the schemes that Parse knows, for messages to people.
const Schemes = "PLAIN, BLF-CRYPT, ARGON2ID, ARGON2I, CRYPT (of those kinds)"

// Parse reads a hash with its scheme in front, as `doveadm pw` prints it:
// {ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$salt$key. The scheme is not
// case-sensitive. Errors never hold the hash itself.
func Parse(s string) (Hash, error) {
	rest, ok := strings.CutPrefix(s, "{")
	if !ok {
		return Hash{}, errors.New("the hash does not begin with a {SCHEME}, as in {ARGON2ID}$argon2id$...; known schemes: " + Schemes)
	}
	name, value, ok := strings.Cut(rest, "}")
	if !ok {
		return Hash{}, errors.New("the {SCHEME} in front of the hash is not closed with a brace")
	}
	switch strings.ToUpper(name) {
	case "PLAIN", "CLEAR", "CLEARTEXT":
		if value == "" {
			return Hash{}, errors.New("the password is empty")
		}
		sum := sha256.Sum256([]byte(value))
		return Hash{scheme: schemePlain, digest: sum[:]}, nil
	case "BLF-CRYPT":
		return parseBcrypt(value)
	case "ARGON2ID":
		return parseArgon(value, "argon2id")
	case "ARGON2I":
		return parseArgon(value, "argon2i")
	case "CRYPT":
		return parseCrypt(value)
	}
	return Hash{}, fmt.Errorf("the scheme {%s} is not known; known schemes: %s", printable(name), Schemes)
}

// parseCrypt reads a crypt(3) string whose prefix tells its kind.
func parseCrypt(value string) (Hash, error) {
	switch {
	case strings.HasPrefix(value, "$2"):
		return parseBcrypt(value)
	case strings.HasPrefix(value, "$argon2id$"):
		return parseArgon(value, "argon2id")
	case strings.HasPrefix(value, "$argon2i$"):
		return parseArgon(value, "argon2i")
	}
	return Hash{}, errors.New("this kind of {CRYPT} hash is not supported ($2y$ and $argon2id$ are): set the password anew, for example with `rookery user passwd`")
}

func parseBcrypt(value string) (Hash, error) {
	cost, err := bcrypt.Cost([]byte(value))
	if err != nil || len(value) != 60 || value[0] != '$' || !strings.ContainsRune("aby", rune(value[2])) {
		return Hash{}, errors.New("this is not a bcrypt hash: 60 characters that begin with $2y$ are expected")
	}
	if cost > maxBcryptCost {
		return Hash{}, fmt.Errorf("the bcrypt cost is %d, at most %d is allowed: each login would keep the server busy for too long", cost, maxBcryptCost)
	}
	return Hash{scheme: schemeBcrypt, digest: []byte(value)}, nil
}

// parseArgon reads $argon2id$v=19$m=65536,t=3,p=4$salt$key (the PHC string
// format, which Dovecot uses too).
func parseArgon(value, kind string) (Hash, error) {
	f := strings.Split(value, "$")
	if len(f) != 6 || f[0] != "" || f[1] != kind {
		return Hash{}, fmt.Errorf("this is not an %[1]s hash: $%[1]s$v=19$m=...,t=...,p=...$salt$key is expected", kind)
	}
	if f[2] != "v=19" {
		return Hash{}, fmt.Errorf("this %s hash is of version %q, only v=19 is known", kind, printable(f[2]))
	}
	h := Hash{scheme: schemeArgon2id}
	if kind == "argon2i" {
		h.scheme = schemeArgon2i
	}
	if err := h.parseArgonParams(f[3]); err != nil {
		return Hash{}, fmt.Errorf("in this %s hash, %w", kind, err)
	}
	var err error
	if h.salt, err = decode64(f[4]); err != nil || len(h.salt) < 8 || len(h.salt) > 64 {
		return Hash{}, fmt.Errorf("in this %s hash, the salt is not 8 to 64 bytes of base64", kind)
	}
	if h.digest, err = decode64(f[5]); err != nil || len(h.digest) < 16 || len(h.digest) > 128 {
		return Hash{}, fmt.Errorf("in this %s hash, the key is not 16 to 128 bytes of base64", kind)
	}
	return h, nil
}

func (h *Hash) parseArgonParams(params string) error {
	var threads uint32
	seen := 0
	for p := range strings.SplitSeq(params, ",") {
		name, value, _ := strings.Cut(p, "=")
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil || n == 0 {
			return fmt.Errorf("the parameter %q is not a number above zero", printable(p))
		}
		switch name {
		case "m":
			h.memory = uint32(n)
		case "t":
			h.passes = uint32(n)
		case "p":
			threads = uint32(n)
		default:
			return fmt.Errorf("the parameter %q is not one of m, t and p", printable(p))
		}
		seen++
	}
	switch {
	case seen != 3 || h.memory == 0 || h.passes == 0 || threads == 0:
		return errors.New("m, t and p must be given, each once")
	case threads > maxArgonThreads:
		return fmt.Errorf("p is %d, at most %d is allowed", threads, maxArgonThreads)
	case h.memory > maxArgonMemory:
		return fmt.Errorf("m is %d KiB, at most %d is allowed: each login would take that much memory", h.memory, maxArgonMemory)
	case uint64(h.memory)*uint64(h.passes) > maxArgonWork:
		return fmt.Errorf("m times t is %d, at most %d is allowed: each login would keep the server busy for too long", uint64(h.memory)*uint64(h.passes), maxArgonWork)
	}
	h.lanes = uint8(threads)
	return nil
}

// decode64 reads base64 with or without padding.
func decode64(s string) ([]byte, error) {
	return base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
}

// fits reports whether password is the one that was hashed. Its time depends
// on the scheme and its parameters, not on where the two differ.
func (h Hash) fits(password string) bool {
	if len(password) > maxPassword {
		return false
	}
	switch h.scheme {
	case schemePlain:
		sum := sha256.Sum256([]byte(password))
		return subtle.ConstantTimeCompare(sum[:], h.digest) == 1
	case schemeBcrypt:
		return bcrypt.CompareHashAndPassword(h.digest, []byte(password)) == nil
	case schemeArgon2id:
		key := argon2.IDKey([]byte(password), h.salt, h.passes, h.memory, h.lanes, uint32(len(h.digest)))
		return subtle.ConstantTimeCompare(key, h.digest) == 1
	case schemeArgon2i:
		key := argon2.Key([]byte(password), h.salt, h.passes, h.memory, h.lanes, uint32(len(h.digest)))
		return subtle.ConstantTimeCompare(key, h.digest) == 1
	}
	return false
}

// cost returns the memory that fits takes, in KiB.
func (h Hash) cost() int64 { return int64(h.memory) + 16 }

// New hashes a password with argon2id and a fresh salt, in the form that Parse
// reads. It refuses an empty password, one longer than 4096 bytes, and one with
// NUL, CR or LF: logins with that would never succeed, because IMAP has no NUL
// and SASL PLAIN ends at it, and mail programs take one line.
func New(password string) (string, error) {
	if password == "" {
		return "", errors.New("the password is empty")
	}
	if len(password) > maxPassword {
		return "", fmt.Errorf("the password is longer than %d bytes", maxPassword)
	}
	if strings.ContainsAny(password, "\x00\r\n") {
		return "", errors.New("there is a NUL, CR or LF in the password, which no mail program could send; choose another one")
	}
	salt := make([]byte, newSalt)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	key := argon2.IDKey([]byte(password), salt, newPasses, newMemory, 1, newKey)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("{ARGON2ID}$argon2id$v=%d$m=%d,t=%d,p=1$%s$%s", argon2.Version, newMemory, newPasses,
		b64.EncodeToString(salt), b64.EncodeToString(key)), nil
}

// printable shortens what an operator typed for an error message.
func printable(s string) string {
	const most = 40
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
