package lmtp

import "strings"

// address is what a path has between its brackets (RFC 5321 section 4.1.2), without
// the route and with the local part as it is meant: no quotes, no backslashes.
type address struct {
	local, domain string // no domain: a user of this machine
}

// plain returns local-part@domain, or the local part alone.
func (a address) plain() string {
	if a.domain == "" {
		return a.local
	}
	return a.local + "@" + a.domain
}

// String returns the address as it is written in a path: quoted where it must be.
func (a address) String() string {
	local := a.local
	if local != "" && strings.ContainsAny(local, specials+"@\t") || strings.HasPrefix(local, ".") ||
		strings.HasSuffix(local, ".") || strings.Contains(local, "..") {
		local = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"`
	}
	if a.domain == "" {
		return local
	}
	return local + "@" + a.domain
}

// specials cannot be in a local part without quotes.
const specials = `()<>[]:;\," `

// parsePath reads a path, in brackets or, where it has a domain, without them, and
// returns what follows it. Local parts may have dots where RFC 5321 has none.
func parsePath(s string) (a address, rest string, ok bool) {
	s, bracket := strings.CutPrefix(s, "<")
	if strings.HasPrefix(s, "@") { // a route, to be ignored (RFC 5321 appendix C)
		if _, s, ok = strings.Cut(s, ":"); !ok {
			return a, "", false
		}
	}
	if a.local, s, ok = parseLocal(s); !ok {
		return a, "", false
	}
	s, at := strings.CutPrefix(s, "@")
	if at {
		end := strings.IndexAny(s, "> \t")
		if end < 0 {
			end = len(s)
		}
		a.domain, s = s[:end], s[end:]
	}
	if bracket {
		if s, ok = strings.CutPrefix(s, ">"); !ok {
			return a, "", false
		}
	}
	if at != (a.domain != "") || !at && !bracket || s != "" && s[0] != ' ' && s[0] != '\t' || hasControls(a.domain) {
		return a, "", false
	}
	return a, s, true
}

// parseLocal reads a local part that is not empty.
func parseLocal(s string) (local, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, specials+"@\t")
		if end < 0 {
			end = len(s)
		}
		return s[:end], s[end:], end > 0 && !hasControls(s[:end])
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], b.Len() > 0 && !hasControls(b.String())
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

func hasControls(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return true
		}
	}
	return false
}

// Addresses lists the names under which the account of an address may be
// kept, the first choice first: the whole address, the address without its
// +detail, the local part, the local part without its +detail; each as it is
// and in lower case.
func Addresses(address string) []string {
	local, domain := address, ""
	if i := strings.LastIndexByte(address, '@'); i >= 0 {
		local, domain = address[:i], address[i+1:]
	}
	plain, _, detailed := strings.Cut(local, "+")
	var names []string
	add := func(name string) {
		for _, n := range [...]string{name, strings.ToLower(name)} {
			if n == "" {
				continue
			}
			known := false
			for _, have := range names {
				known = known || have == n
			}
			if !known {
				names = append(names, n)
			}
		}
	}
	if domain != "" {
		add(local + "@" + domain)
		// Domains have no case; local parts might.
		add(local + "@" + strings.ToLower(domain))
		if detailed && plain != "" {
			add(plain + "@" + domain)
			add(plain + "@" + strings.ToLower(domain))
		}
	}
	add(local)
	if detailed && plain != "" {
		add(plain)
	}
	return names
}
