package imap

// Flag is a system flag (`\Seen`) or a keyword (`$Forwarded`). Flags compare
// without regard to ASCII case: use [EqualFlag], or compare what
// [Flag.Canonical] returns where only system flags matter.
type Flag string

// System flags (RFC 9051 section 2.3.2; \Recent is RFC 3501's).
const (
	FlagSeen     Flag = `\Seen`
	FlagAnswered Flag = `\Answered`
	FlagFlagged  Flag = `\Flagged`
	FlagDeleted  Flag = `\Deleted`
	FlagDraft    Flag = `\Draft`
	FlagRecent   Flag = `\Recent`
)

// FlagAny is `\*` in PERMANENTFLAGS: clients may make new keywords.
const FlagAny Flag = `\*`

// Keywords that RFC 9051 section 2.3.2 and RFC 8457 register.
const (
	FlagForwarded Flag = "$Forwarded"
	FlagMDNSent   Flag = "$MDNSent"
	FlagJunk      Flag = "$Junk"
	FlagNotJunk   Flag = "$NotJunk"
	FlagPhishing  Flag = "$Phishing"
	FlagImportant Flag = "$Important"
)

// Canonical returns a system flag in the case in which it is registered, and
// anything else unchanged. It does not allocate.
func (f Flag) Canonical() Flag {
	if len(f) == 0 || f[0] != '\\' {
		return f
	}
	for _, known := range [...]Flag{FlagSeen, FlagAnswered, FlagFlagged, FlagDeleted, FlagDraft, FlagRecent} {
		if EqualFlag(f, known) {
			return known
		}
	}
	return f
}

// IsSystem reports whether f begins with a backslash, as only flags with a
// meaning in an RFC do.
func (f Flag) IsSystem() bool { return len(f) > 0 && f[0] == '\\' }

// Fold returns the flag in lower case, fit as a key of a map.
func (f Flag) Fold() string {
	for i := range len(f) {
		if c := f[i]; 'A' <= c && c <= 'Z' {
			b := []byte(f)
			for j := i; j < len(b); j++ {
				b[j] = lower(b[j])
			}
			return string(b)
		}
	}
	return string(f)
}

// EqualFlag reports whether two flags are the same but for ASCII case.
func EqualFlag(a, b Flag) bool { return equalFold(string(a), string(b)) }

// ValidKeyword reports whether s can be a keyword: an atom of RFC 9051
// section 9, so without a backslash, and no longer than 255 bytes.
func ValidKeyword(s string) bool {
	if len(s) == 0 || len(s) > 255 {
		return false
	}
	for i := range len(s) {
		if !isAtomChar(s[i]) {
			return false
		}
	}
	return true
}

// Valid reports whether f is one of the system flags that a message can hold
// (\Recent among them) or a valid keyword.
func (f Flag) Valid() bool {
	if f.IsSystem() {
		switch f.Canonical() {
		case FlagSeen, FlagAnswered, FlagFlagged, FlagDeleted, FlagDraft, FlagRecent:
			return true
		}
		return false
	}
	return ValidKeyword(string(f))
}

func isAtomChar(c byte) bool {
	if c <= ' ' || c >= 0x7f {
		return false
	}
	switch c {
	case '(', ')', '{', '%', '*', '"', '\\', ']':
		return false
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// equalFold compares without regard to ASCII case; strings.EqualFold would
// also fold K with the Kelvin sign.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}
