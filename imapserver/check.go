package imapserver

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// check says what is wrong in an extension by itself: everything that would
// else be a panic, or a broken line, once a client has given some command.
func (e *Extension) check() error {
	if e.Name == "" || e.RFC == "" {
		return fmt.Errorf("imapserver: extension %q needs a Name and an RFC (\"-\" for none)", e.Name)
	}
	k := &checker{of: e.Name}
	for _, c := range e.Capabilities {
		k.word("capability", c.Name)
	}
	check(k, "command", e.Commands, func(v *Command) (string, string) {
		return v.Name, cmp.Or(missing(v.Parse == nil, "Parse"), missing(v.States == 0, "States"))
	})
	check(k, "FETCH item", e.FetchItems, func(v *FetchItem) (string, string) {
		return v.Name, cmp.Or(missing(v.Parse == nil && v.Att == nil, "Att or Parse"), missing(v.Att != nil && v.Att.Write == nil, "Att.Write"))
	})
	check(k, "FETCH modifier", e.FetchMods, func(v *FetchModifier) (string, string) { return v.Name, missing(v.Parse == nil, "Parse") })
	check(k, "STORE modifier", e.StoreMods, func(v *StoreModifier) (string, string) { return v.Name, missing(v.Parse == nil, "Parse") })
	check(k, "SEARCH key", e.SearchKeys, func(v *SearchKey) (string, string) { return v.Name, missing(v.Parse == nil, "Parse") })
	check(k, "SEARCH return option", e.SearchReturns, func(v *SearchReturn) (string, string) { return v.Name, "" })
	check(k, "STATUS item", e.StatusItems, func(v *StatusItem) (string, string) { return v.Name, missing(v.Write == nil, "Write") })
	check(k, "LIST selection option", e.ListSelects, func(v *ListSelect) (string, string) { return v.Name, "" })
	check(k, "LIST return option", e.ListReturns, func(v *ListReturn) (string, string) { return v.Name, "" })
	check(k, "SELECT parameter", e.SelectParams, func(v *SelectParam) (string, string) { return v.Name, missing(v.Parse == nil, "Parse") })
	check(k, "CREATE parameter", e.CreateParams, func(v *CreateParam) (string, string) { return v.Name, missing(v.Parse == nil, "Parse") })
	check(k, "APPEND data", e.AppendData, func(v *AppendData) (string, string) { return v.Name, missing(v.Parse == nil, "Parse") })
	check(k, "ENABLE word", e.Enables, func(v *Enable) (string, string) { return v.Name, missing(v.Run == nil, "Run") })
	check(k, "SASL mechanism", e.Mechanisms, func(v *Mechanism) (string, string) { return v.Name, missing(v.Start == nil, "Start") })
	return errors.Join(k.errs...)
}

// checker collects what is wrong in an extension.
type checker struct {
	of   string // the extension
	errs []error
}

func (k *checker) fail(format string, args ...any) {
	k.errs = append(k.errs, fmt.Errorf("imapserver: extension %s: %s", k.of, fmt.Sprintf(format, args...)))
}

// word checks that clients can write a name.
func (k *checker) word(what, name string) {
	if !isAtom(name) {
		k.fail("the %s %q must be an atom: ASCII without blanks, control characters and any of (){%%*\"\\]", what, name)
	}
}

// check checks the values of one slot.
func check[T any](k *checker, what string, values []*T, look func(*T) (name, lacks string)) {
	for i, v := range values {
		if v == nil {
			k.fail("%s %d is nil", what, i)
			continue
		}
		name, lacks := look(v)
		k.word(what, name)
		if lacks != "" {
			k.fail("the %s %s needs %s", what, name, lacks)
		}
	}
}

// missing is what a value lacks, if it does.
func missing(lacks bool, what string) string {
	if lacks {
		return what
	}
	return ""
}

// isAtom reports whether s is an atom (RFC 9051 section 9). "[" is allowed
// there; no name here has it, because it begins the section of a FETCH item.
func isAtom(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune("(){%*\"\\[]", r)
	})
}

// checkRequires refuses names of extensions that do not exist.
func checkRequires(all []*Extension) error {
	for _, e := range all {
		for _, r := range e.Requires {
			if !slices.ContainsFunc(all, func(o *Extension) bool { return o.Name == r }) {
				return fmt.Errorf("imapserver: extension %s requires %s, and there is no such extension", e.Name, r)
			}
		}
	}
	return nil
}

// leastIdle is the shortest time after which a client that has logged in may be
// logged out for its silence (RFC 9051 section 5.4).
const leastIdle = 30 * time.Minute

// check refuses limits that break the protocol.
func (l *Limits) check() error {
	if l.Idle > 0 && l.Idle < leastIdle && !l.AllowShortIdle {
		return fmt.Errorf("imapserver: Limits.Idle is %v; clients may be silent for %v (RFC 9051 section 5.4)", l.Idle, leastIdle)
	}
	return nil
}
