package imapserver

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// registry is what New derives from the list of extensions.
type registry struct {
	extensions   []*Extension
	capabilities []Capability

	commands      map[string]*Command
	fetchItems    map[string]*FetchItem
	fetchMods     map[string]*FetchModifier
	storeMods     map[string]*StoreModifier
	searchKeys    map[string]*SearchKey
	searchReturns map[string]*SearchReturn
	returnOrder   []*SearchReturn
	statusItems   map[string]*StatusItem
	listSelects   map[string]*ListSelect
	listReturns   map[string]*ListReturn
	selectParams  map[string]*SelectParam
	createParams  map[string]*CreateParam
	appendData    map[string]*AppendData
	enables       map[string]*Enable
	mechanisms    map[string]*Mechanism
	mechOrder     []*Mechanism
}

// newRegistry takes the extensions that the back end has the features for.
func newRegistry(all []*Extension, features Features, without []string) (*registry, error) {
	r := &registry{}
	names := map[string]bool{}
	for _, e := range all {
		if e == nil {
			return nil, errors.New("imapserver: an extension in Options.Extensions is nil")
		}
		if err := e.check(); err != nil {
			return nil, err
		}
		if names[e.Name] {
			return nil, fmt.Errorf("imapserver: extension %s is listed twice", e.Name)
		}
		names[e.Name] = true
		if features.Has(e.Needs) && !slices.Contains(without, e.Name) {
			r.extensions = append(r.extensions, e)
		}
	}
	if err := checkRequires(all); err != nil {
		return nil, err
	}
	for _, w := range without {
		if !names[w] {
			return nil, fmt.Errorf("imapserver: Options.Without names %s, and there is no such extension", w)
		}
	}
	for _, e := range r.extensions {
		for _, w := range without {
			if slices.Contains(e.Requires, w) {
				return nil, fmt.Errorf("imapserver: Options.Without names %s, which %s requires; name that too", w, e.Name)
			}
		}
	}
	if slices.Contains(without, "IMAP4rev1") {
		return nil, errors.New("imapserver: Options.Without names IMAP4rev1, and there is no server without it")
	}
	return r, r.index()
}

// on reports whether an extension is on.
func (r *registry) on(name string) bool {
	return slices.ContainsFunc(r.extensions, func(e *Extension) bool { return e.Name == name })
}

// index fills the look-up tables.
func (r *registry) index() error {
	t := table{owner: map[string]string{}}
	for _, e := range r.extensions {
		r.capabilities = append(r.capabilities, e.Capabilities...)
		for _, word := range e.words() {
			t.own(e, "capability", word)
		}
		put(&t, e, "command", &r.commands, e.Commands, func(c *Command) string { return c.Name })
		put(&t, e, "FETCH item", &r.fetchItems, e.FetchItems, func(i *FetchItem) string { return i.Name })
		put(&t, e, "FETCH modifier", &r.fetchMods, e.FetchMods, func(m *FetchModifier) string { return m.Name })
		put(&t, e, "STORE modifier", &r.storeMods, e.StoreMods, func(m *StoreModifier) string { return m.Name })
		put(&t, e, "SEARCH key", &r.searchKeys, e.SearchKeys, func(k *SearchKey) string { return k.Name })
		put(&t, e, "SEARCH return option", &r.searchReturns, e.SearchReturns, func(k *SearchReturn) string { return k.Name })
		put(&t, e, "STATUS item", &r.statusItems, e.StatusItems, func(i *StatusItem) string { return i.Name })
		put(&t, e, "LIST selection option", &r.listSelects, e.ListSelects, func(o *ListSelect) string { return o.Name })
		put(&t, e, "LIST return option", &r.listReturns, e.ListReturns, func(o *ListReturn) string { return o.Name })
		put(&t, e, "SELECT parameter", &r.selectParams, e.SelectParams, func(p *SelectParam) string { return p.Name })
		put(&t, e, "CREATE parameter", &r.createParams, e.CreateParams, func(p *CreateParam) string { return p.Name })
		put(&t, e, "APPEND data", &r.appendData, e.AppendData, func(a *AppendData) string { return a.Name })
		put(&t, e, "ENABLE word", &r.enables, e.Enables, func(en *Enable) string { return en.Name })
		put(&t, e, "SASL mechanism", &r.mechanisms, e.Mechanisms, func(m *Mechanism) string { return m.Name })
		r.returnOrder = append(r.returnOrder, e.SearchReturns...)
		r.mechOrder = append(r.mechOrder, e.Mechanisms...)
	}
	return t.err
}

// table collects the first error of filling look-up tables.
type table struct {
	owner map[string]string // what and name -> the extension that has it
	err   error
}

// put enters an extension's values under their names, in capitals.
func put[T any](t *table, e *Extension, what string, m *map[string]*T, values []*T, name func(*T) string) {
	if *m == nil {
		*m = map[string]*T{}
	}
	for _, v := range values {
		(*m)[t.own(e, what, name(v))] = v
	}
}

// own notes whose a name is, and returns it in capitals.
func (t *table) own(e *Extension, what, name string) string {
	n := strings.ToUpper(name)
	key := what + " " + n
	if other, dup := t.owner[key]; dup && t.err == nil {
		t.err = fmt.Errorf("imapserver: extensions %s and %s both have the %s %s", other, e.Name, what, n)
	}
	t.owner[key] = e.Name
	return n
}

// words are what an extension can add to the capability line; of a word with a
// Value, what stands before that.
func (e *Extension) words() []string {
	var all []string
	for _, c := range e.Capabilities {
		all = append(all, c.Name)
	}
	for _, m := range e.Mechanisms {
		all = append(all, "AUTH="+m.Name)
	}
	return all
}

// withFeature announces a capability where the back end has the features.
func withFeature(f Features) func(*Conn) bool {
	return func(c *Conn) bool { return c.srv.features.Has(f) }
}

// Extensions returns the extensions that are on, in the order of their list.
func (s *Server) Extensions() []*Extension { return slices.Clone(s.reg.extensions) }

// capabilities appends what is announced to a connection now.
func (c *Conn) appendCapabilities(dst []byte) []byte {
	start := len(dst)
	for _, cp := range c.srv.reg.capabilities {
		if cp.When != nil && !cp.When(c) {
			continue
		}
		if len(dst) > start {
			dst = append(dst, ' ')
		}
		dst = append(dst, cp.Name...)
		if cp.Value != nil {
			dst = append(dst, cp.Value(c.srv)...)
		}
	}
	for _, m := range c.srv.reg.mechOrder {
		if c.offers(m) {
			dst = append(dst, " AUTH="...)
			dst = append(dst, m.Name...)
		}
	}
	return dst
}
