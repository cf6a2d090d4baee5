package imapserver

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rookery-mail/rookery/imapwire"
)

// oneOf reads a keyword that has to be in a table and returns what the table
// has for it. Another one, or none, fails the command with the words that would
// have been right; then the value is not to be used.
func oneOf[V any](d *imapwire.Decoder, what string, table map[string]V) (value V, ok bool) {
	word := d.KeywordOf(func() string { return choice(what, table) })
	if value, ok = table[word]; !ok && d.Err() == nil {
		d.Fail(choice(what, table), word)
	}
	return value, ok
}

// keyword reads a keyword of which the caller knows what it may be.
func keyword(d *imapwire.Decoder, expected string) string {
	return d.KeywordOf(func() string { return expected })
}

// choice says what a table has, as far as a response has room for it.
func choice[V any](what string, table map[string]V) string {
	const room = 180
	words := slices.Sorted(maps.Keys(table))
	if len(words) == 0 {
		return "no " + what + ": this server has none"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", what, words[0])
	for i, w := range words[1:] {
		if left := len(words) - 1 - i; b.Len()+len(w) > room {
			fmt.Fprintf(&b, " or %d others", left)
			break
		}
		b.WriteString(", " + w)
	}
	return b.String()
}
