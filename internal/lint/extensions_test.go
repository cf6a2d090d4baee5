package lint

import (
	"fmt"
	"go/ast"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imaptest"
	"github.com/rookery-mail/rookery/memory"
)

// A transcript is what these tests see of one.
type transcript struct {
	rfc, needs string
	commands   []string // the C: lines, in capitals, without the letter
}

// transcripts returns all transcripts.
func transcripts(t *testing.T) (all []transcript) {
	t.Helper()
	names, err := fs.Glob(imaptest.Transcripts(), "*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := fs.ReadFile(imaptest.Transcripts(), name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, readTranscript(string(data)))
	}
	return all
}

var clientLine = regexp.MustCompile(`^[a-z]+ C[:+!] (.*)`)

func readTranscript(text string) (tr transcript) {
	script, _, _ := strings.Cut(text, "\n-- ")
	for _, line := range strings.Split(script, "\n") {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "rfc":
			tr.rfc = value
		case "needs":
			tr.needs = value
		case "enable":
			tr.commands = append(tr.commands, "ENABLE "+strings.ToUpper(value))
		}
		if m := clientLine.FindStringSubmatch(line); m != nil {
			tr.commands = append(tr.commands, strings.ToUpper(strings.TrimPrefix(m[1], "$tag ")))
		}
	}
	return tr
}

// extensions returns the extensions of a server that can do everything.
func extensions(t *testing.T) []*imapserver.Extension {
	t.Helper()
	backend, err := imapmodel.New(memory.New(), imapmodel.Options{State: &imapmodel.MemoryState{}})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := imapserver.New(backend, imapserver.Passwords{}, imapserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	return srv.Extensions()
}

// TestAllExtensionsAreSeen counts the list in the source, so that none is
// passed over here because the model lacks something for it.
func TestAllExtensionsAreSeen(t *testing.T) {
	n := 0
	for _, f := range packages(t)["imapserver"] {
		ast.Inspect(f.ast, func(node ast.Node) bool {
			fn, ok := node.(*ast.FuncDecl)
			if ok && fn.Name.Name == "builtin" {
				ret := fn.Body.List[0].(*ast.ReturnStmt)
				n = len(ret.Results[0].(*ast.CompositeLit).Elts)
			}
			return !ok
		})
	}
	if got := len(extensions(t)); got != n {
		t.Errorf("the server with package memory has %d extensions, and builtin lists %d", got, n)
	}
}

// TestExtensionsHaveTranscripts: each extension has an RFC, and a transcript
// that names the RFC or needs the extension.
func TestExtensionsHaveTranscripts(t *testing.T) {
	all := transcripts(t)
	for _, e := range extensions(t) {
		if e.RFC == "-" || e.RFC == "" {
			t.Errorf("%s has no RFC", e.Name)
			continue
		}
		proves := func(tr transcript) bool {
			return slices.Contains(numbers.FindAllString(tr.rfc, -1), e.RFC) ||
				slices.Contains(strings.Fields(tr.needs), e.Name)
		}
		if !slices.ContainsFunc(all, proves) {
			t.Errorf("no transcript has %q in rfc: or %q in needs:", e.RFC, e.Name)
		}
	}
}

var numbers = regexp.MustCompile(`\d{4}`)

// TestEverythingHasTranscripts: each command, FETCH item, SEARCH key and so on
// is said in a transcript.
func TestEverythingHasTranscripts(t *testing.T) {
	var said []string
	for _, tr := range transcripts(t) {
		said = append(said, tr.commands...)
	}
	for _, e := range extensions(t) {
		for _, w := range words(e) {
			re := regexp.MustCompile(w.pattern)
			if !slices.ContainsFunc(said, re.MatchString) {
				t.Errorf("no transcript says the %s %s of %s", w.what, w.name, e.Name)
			}
		}
	}
}

// word is something that a client can say.
type word struct{ what, name, pattern string }

// words returns what clients can say because of an extension.
func words(e *imapserver.Extension) (all []word) {
	// add adds a word that follows something in commands of some names.
	add := func(what, name, command string) {
		all = append(all, word{what, name, fmt.Sprintf(`^(UID )?(%s)\b.*[ (]%s($|[^A-Z0-9])`, command, regexp.QuoteMeta(strings.ToUpper(name)))})
	}
	for _, c := range e.Commands {
		all = append(all, word{"command", c.Name, `^` + c.Name + `\b`})
		if c.UID {
			all = append(all, word{"command", "UID " + c.Name, `^UID ` + c.Name + `\b`})
		}
	}
	for _, i := range e.FetchItems {
		add("FETCH item", i.Name, "FETCH")
	}
	for _, m := range e.FetchMods {
		add("FETCH modifier", m.Name, "FETCH")
	}
	for _, m := range e.StoreMods {
		add("STORE modifier", m.Name, "STORE")
	}
	for _, k := range e.SearchKeys {
		add("SEARCH key", k.Name, "SEARCH")
	}
	for _, r := range e.SearchReturns {
		add("SEARCH return option", r.Name, "SEARCH RETURN")
	}
	for _, i := range e.StatusItems {
		add("STATUS item", i.Name, "STATUS|LIST")
	}
	for _, o := range e.ListSelects {
		add("LIST selection option", o.Name, "LIST")
	}
	for _, o := range e.ListReturns {
		add("LIST return option", o.Name, "LIST")
	}
	for _, p := range e.SelectParams {
		add("SELECT parameter", p.Name, "SELECT|EXAMINE")
	}
	for _, p := range e.CreateParams {
		add("CREATE parameter", p.Name, "CREATE")
	}
	for _, a := range e.AppendData {
		add("APPEND data", a.Name, "APPEND")
	}
	for _, w := range e.Enables {
		add("ENABLE word", w.Name, "ENABLE")
	}
	for _, m := range e.Mechanisms {
		add("SASL mechanism", m.Name, "AUTHENTICATE")
	}
	return all
}
