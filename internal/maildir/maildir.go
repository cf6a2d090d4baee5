// Package maildir reads Maildirs as Dovecot, Courier, mbsync and others leave
// them: one folder, Maildir++ (.Folder.Sub beside cur and new), or folders in
// folders (LAYOUT=fs), with the names in modified UTF-7.
//
// It never writes, and works on a Maildir in use: a message whose name changes
// meanwhile is found again. Start with [Open], then [Maildir.Folders] and
// [Folder.Messages]. Line ends are given as they are in the file; package crlf
// turns them.
package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/rookery-mail/rookery/imap"
)

// Separator separates the parts of folder names, whatever the Maildir uses.
const Separator = '/'

// A Maildir is a tree of folders on disk.
type Maildir struct{ root string }

// A Folder is one folder that holds messages.
type Folder struct {
	// Name is the normalised name in UTF-8, INBOX for the top of the tree.
	Name string
	// Dir is the directory that has cur and new.
	Dir string
	// Notes says what was odd about the name on disk; empty where nothing was.
	Notes []string
}

// Open looks at a path and reports an error that says what is missing where
// no Maildir is there.
func Open(path string) (*Maildir, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no Maildir at %s: the path does not exist", path)
	case err != nil:
		return nil, fmt.Errorf("cannot read the Maildir: %w", err)
	case !info.IsDir():
		return nil, fmt.Errorf("%s is a file, not a Maildir: is it an mbox? Then use `import mbox`", path)
	}
	switch base := filepath.Base(path); {
	case (base == "cur" || base == "new" || base == "tmp") && isFolder(filepath.Dir(filepath.Clean(path))):
		return nil, fmt.Errorf("%s is a part of a Maildir: give the folder above it, %s", path, filepath.Dir(filepath.Clean(path)))
	}
	return &Maildir{root: path}, nil
}

// maxDepth bounds how deep folders may be nested on disk.
const maxDepth = 64

// Folders lists the folders, sorted by name with INBOX first. A Maildir with no
// folder at all is an error that says what was looked for.
func (m *Maildir) Folders() ([]Folder, error) {
	s := scan{names: make(map[string]string), seen: make(map[string]bool)}
	if isFolder(m.root) {
		s.add(nil, m.root)
	}
	if err := s.walk(m.root, nil, 0); err != nil {
		return nil, err
	}
	if len(s.folders) == 0 {
		return nil, fmt.Errorf("%s is not a Maildir: neither it nor a folder in it has the directories cur and new", m.root)
	}
	slices.SortFunc(s.folders, func(a, b Folder) int {
		if ai, bi := a.Name == imap.Inbox, b.Name == imap.Inbox; ai != bi {
			if ai {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return s.folders, nil
}

// isFolder reports whether dir has cur or new. (Git and some backup programs
// drop empty directories, so one of the two is enough.)
func isFolder(dir string) bool {
	for _, sub := range [...]string{"cur", "new"} {
		if info, err := os.Stat(filepath.Join(dir, sub)); err == nil && info.IsDir() {
			return true
		}
	}
	return false
}

type scan struct {
	folders []Folder
	names   map[string]string // name to directory
	seen    map[string]bool   // directories after links were followed
}

// walk looks for folders in dir, whose own name has the parts above.
func (s *scan) walk(dir string, above []string, depth int) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("cannot read the Maildir: %w", err)
	}
	if s.seen[real] || depth > maxDepth {
		return nil
	}
	s.seen[real] = true
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cannot read the Maildir: %w", err)
	}
	for _, e := range entries {
		switch e.Name() {
		case "cur", "new", "tmp":
			if isFolder(dir) {
				continue
			}
		}
		sub := filepath.Join(dir, e.Name())
		if info, err := os.Stat(sub); err != nil || !info.IsDir() {
			continue
		}
		parts := append(slices.Clone(above), e.Name())
		if plus, ok := strings.CutPrefix(e.Name(), "."); ok {
			if !isFolder(sub) {
				continue // a hidden directory that is none of ours
			}
			parts = append(slices.Clone(above), strings.Split(plus, ".")...)
		}
		if isFolder(sub) {
			s.add(parts, sub)
		}
		if err := s.walk(sub, parts, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// add records a folder under the name that the parts give.
func (s *scan) add(parts []string, dir string) {
	f := Folder{Name: imap.Inbox, Dir: dir}
	if len(parts) > 0 {
		f.Name, f.Notes = folderName(parts)
	}
	// Two folders may have one name, as INBOX at the top and INBOX below it in
	// trees that programs of different habits have used. Both are listed: their
	// messages go to one mailbox.
	if other, ok := s.names[f.Name]; ok {
		f.Notes = append(f.Notes, fmt.Sprintf("%s and %s are both %q; their messages go to one mailbox", other, dir, f.Name))
	}
	s.names[f.Name] = dir
	s.folders = append(s.folders, f)
}

// folderName decodes and normalises the parts of a name. Whatever is no name
// gets one that is, and a note.
func folderName(parts []string) (string, []string) {
	var notes []string
	decoded := make([]string, 0, len(parts))
	for _, raw := range parts {
		if raw == "" {
			continue // two dots side by side
		}
		name, err := imap.DecodeUTF7(raw)
		if err != nil {
			// Names in plain UTF-8 are found where Dovecot ran with utf8 names,
			// and a lone & where a person made the directory.
			name = strings.ToValidUTF8(raw, "_")
			if !utf8.ValidString(raw) || isASCII(raw) {
				notes = append(notes, fmt.Sprintf("the directory name %q is not in modified UTF-7; it becomes %q", raw, name))
			}
		}
		if clean := cleanPart(name); clean != name {
			notes = append(notes, fmt.Sprintf("the folder name %q is not possible here; it becomes %q", name, clean))
			name = clean
		}
		decoded = append(decoded, name)
	}
	name := strings.Join(decoded, string(Separator))
	normal, err := imap.NormalizeMailbox(name, Separator)
	if err != nil {
		normal = "Imported"
		notes = append(notes, fmt.Sprintf("the folder name %.60q is not possible here (%v); it becomes %q", name, err, normal))
	}
	return normal, notes
}

// cleanPart replaces what cannot be in one part of a name.
func cleanPart(s string) string {
	return strings.Map(func(r rune) rune {
		if r == Separator || r < ' ' || 0x7f <= r && r < 0xa0 || r == 0x2028 || r == 0x2029 {
			return '_'
		}
		return r
	}, s)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
