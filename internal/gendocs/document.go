package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/rookery-mail/rookery/imapserver"
)

const intro = `<!-- Written by internal/gendocs; change the extension values of imapserver, not this file. -->

# What Rookery speaks

Each line below comes from the value that makes the server do it
(` + "`imapserver.Extension`" + `); a test fails when this page is behind. Responses are
those of IMAP4rev1 (RFC 3501) until a client says ENABLE IMAP4rev2 (RFC 9051).

A capability is announced only where it works: a back end that lacks a feature
(the last column) switches the extension off. The store of ` + "`rookery serve`" + ` has
them all.
`

// document returns the page.
func document(exts []*imapserver.Extension) []byte {
	var b bytes.Buffer
	b.WriteString(intro)
	rfcTable(&b, exts)
	commandTable(&b, exts)
	b.WriteString("\n## Words within commands\n")
	for _, k := range kinds() {
		wordTable(&b, exts, k)
	}
	return b.Bytes()
}

// rfcTable lists the extensions.
func rfcTable(b *bytes.Buffer, exts []*imapserver.Extension) {
	b.WriteString("\n## Extensions\n\n| extension | RFC | announced as | needs of the back end |\n|---|---|---|---|\n")
	for _, e := range exts {
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", e.Name, rfcLink(e.RFC), announced(e), strings.Join(features(e.Needs), ", "))
	}
}

func rfcLink(rfc string) string {
	if rfc == "-" {
		return "none"
	}
	return fmt.Sprintf("[%s](https://www.rfc-editor.org/rfc/rfc%s)", rfc, rfc)
}

// announced returns the words of the capability line.
func announced(e *imapserver.Extension) string {
	var words []string
	for _, c := range e.Capabilities {
		word := c.Name
		if c.Value != nil {
			word += "…"
		}
		words = append(words, code(word))
	}
	for _, m := range e.Mechanisms {
		words = append(words, code("AUTH="+m.Name))
	}
	return strings.Join(words, " ")
}

// features names what a back end has to have.
func features(f imapserver.Features) (names []string) {
	all := []struct {
		feature imapserver.Features
		name    string
	}{
		{imapserver.FeatureHistory, "history"},
		{imapserver.FeatureObjectID, "object identifiers"},
		{imapserver.FeatureSaveDate, "save dates"},
		{imapserver.FeatureAppend, "append"},
		{imapserver.FeatureMultiAppend, "append all or none"},
		{imapserver.FeatureCopy, "copy"},
		{imapserver.FeatureMove, "move"},
		{imapserver.FeatureMailboxes, "mailboxes"},
		{imapserver.FeatureSubscribe, "subscriptions"},
		{imapserver.FeatureSpecialUse, "special use"},
		{imapserver.FeatureBinary, "NUL in messages"},
		{imapserver.FeatureUTF8, "UTF-8 in headers"},
	}
	for _, a := range all {
		if f&a.feature != 0 {
			names = append(names, a.name)
			f &^= a.feature
		}
	}
	if f != 0 {
		names = append(names, fmt.Sprintf("%#x (name it in internal/gendocs)", uint32(f)))
	}
	return names
}

// commandTable is the reference of commands, by name.
func commandTable(b *bytes.Buffer, exts []*imapserver.Extension) {
	type row struct {
		*imapserver.Command
		of *imapserver.Extension
	}
	var rows []row
	for _, e := range exts {
		for _, c := range e.Commands {
			rows = append(rows, row{c, e})
		}
	}
	slices.SortFunc(rows, func(a, b row) int { return strings.Compare(a.Name, b.Name) })
	b.WriteString("\n## Commands\n\nArguments are in ABNF; a BAD answer says where a command leaves it.\n\n| command | arguments | in state | from |\n|---|---|---|---|\n")
	for _, r := range rows {
		name := code(r.Name)
		if r.UID {
			name += ", " + code("UID "+r.Name)
		}
		args := "none"
		if r.Args != "" {
			args = code(r.Args)
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", name, args, states(r.States), r.of.Name)
	}
}

func states(s imapserver.States) string {
	switch s {
	case imapserver.AnyState:
		return "any"
	case imapserver.LoggedIn:
		return "logged in"
	case imapserver.NotAuthenticated:
		return "before login"
	case imapserver.Selected:
		return "selected"
	}
	return fmt.Sprintf("%#x", uint8(s))
}

// A kind is a slot of Extension whose values are words within commands.
type kind struct {
	title string
	names func(*imapserver.Extension) []string
}

func kinds() []kind {
	return []kind{
		{"FETCH items", func(e *imapserver.Extension) []string {
			return names(e.FetchItems, func(v *imapserver.FetchItem) string { return v.Name })
		}},
		{"FETCH modifiers", func(e *imapserver.Extension) []string {
			return names(e.FetchMods, func(v *imapserver.FetchModifier) string { return v.Name })
		}},
		{"STORE modifiers", func(e *imapserver.Extension) []string {
			return names(e.StoreMods, func(v *imapserver.StoreModifier) string { return v.Name })
		}},
		{"SEARCH keys", func(e *imapserver.Extension) []string {
			return names(e.SearchKeys, func(v *imapserver.SearchKey) string { return v.Name })
		}},
		{"SEARCH return options", func(e *imapserver.Extension) []string {
			return names(e.SearchReturns, func(v *imapserver.SearchReturn) string { return v.Name })
		}},
		{"STATUS items", func(e *imapserver.Extension) []string {
			return names(e.StatusItems, func(v *imapserver.StatusItem) string { return v.Name })
		}},
		{"LIST selection options", func(e *imapserver.Extension) []string {
			return names(e.ListSelects, func(v *imapserver.ListSelect) string { return v.Name })
		}},
		{"LIST return options", func(e *imapserver.Extension) []string {
			return names(e.ListReturns, func(v *imapserver.ListReturn) string { return v.Name })
		}},
		{"SELECT and EXAMINE parameters", func(e *imapserver.Extension) []string {
			return names(e.SelectParams, func(v *imapserver.SelectParam) string { return v.Name })
		}},
		{"CREATE parameters", func(e *imapserver.Extension) []string {
			return names(e.CreateParams, func(v *imapserver.CreateParam) string { return v.Name })
		}},
		{"APPEND data", func(e *imapserver.Extension) []string {
			return names(e.AppendData, func(v *imapserver.AppendData) string { return v.Name })
		}},
		{"ENABLE words", func(e *imapserver.Extension) []string {
			return names(e.Enables, func(v *imapserver.Enable) string { return v.Name })
		}},
		{"SASL mechanisms", func(e *imapserver.Extension) []string {
			return names(e.Mechanisms, func(v *imapserver.Mechanism) string { return v.Name })
		}},
	}
}

func names[T any](values []T, name func(T) string) (all []string) {
	for _, v := range values {
		all = append(all, name(v))
	}
	slices.Sort(all)
	for i, n := range all {
		all[i] = code(n)
	}
	return all
}

// wordTable lists the words of one kind by extension.
func wordTable(b *bytes.Buffer, exts []*imapserver.Extension, k kind) {
	fmt.Fprintf(b, "\n### %s\n\n", k.title)
	any := false
	for _, e := range exts {
		if words := k.names(e); len(words) > 0 {
			any = true
			fmt.Fprintf(b, "- %s: %s\n", e.Name, strings.Join(words, ", "))
		}
	}
	if !any {
		b.WriteString("None yet; the slot is there.\n")
	}
}

// code sets text as code in a cell of a table.
func code(s string) string { return "`" + strings.ReplaceAll(s, "|", `\|`) + "`" }
