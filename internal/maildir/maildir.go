// Package maildir reads Maildirs as Dovecot, Courier, mbsync and others leave
// them: one folder, Maildir++ (.Folder.Sub beside cur and new), or folders in
// folders (LAYOUT=fs), with the names in modified UTF-7.
//
// It never writes, and works on a Maildir in use: a message whose name changes
// meanwhile is found again. Only regular files are read, and no link is followed:
// whoever owns the Maildir need not be whom the reader trusts. Start with [Open],
// then [Maildir.Folders] and [Folder.Messages]. Line ends are given as they are
// in the file; package crlf turns them.
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
	"github.com/rookery-mail/rookery/internal/plainfile"
)

// Separator separates the parts of folder names, whatever the Maildir uses.
const Separator = '/'

// A Maildir is a tree of folders on disk. It is closed when nothing of it is read
// any more.
type Maildir struct {
	path string
	root *os.Root
}

// A Note tells people of something odd.
type Note struct {
	Text string
	// Unread says that something was left out because it cannot be read.
	Unread bool
}

// A Folder is one folder that holds messages.
type Folder struct {
	// Name is the normalised name in UTF-8, INBOX for the top of the tree.
	Name string
	// Dir is the directory that has cur and new.
	Dir string
	// Notes says what was odd about the name on disk; empty where nothing was.
	Notes []string

	tree *Maildir
	rel  string // the directory below the root
}

// Open looks at a path and reports an error that says what is missing where
// no Maildir is there.
func Open(path string) (*Maildir, error) {
	root, err := plainfile.OpenRoot(path)
	kind, _ := errors.AsType[*plainfile.KindError](err)
	link, _ := errors.AsType[*plainfile.LinkError](err)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no Maildir at %s: the path does not exist", path)
	case link != nil:
		return nil, err
	case kind != nil:
		return nil, fmt.Errorf("%s is a file, not a Maildir: is it an mbox? Then use `import mbox`", path)
	case err != nil:
		return nil, fmt.Errorf("cannot read the Maildir: %w", err)
	}
	m := &Maildir{path: path, root: root}
	switch base := filepath.Base(path); base {
	case "cur", "new", "tmp":
		above := filepath.Dir(filepath.Clean(path))
		if isDir(filepath.Join(above, "cur")) || isDir(filepath.Join(above, "new")) {
			root.Close()
			return nil, fmt.Errorf("%s is a part of a Maildir: give the folder above it, %s", path, above)
		}
	}
	return m, nil
}

func isDir(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}

// Close lets go of the Maildir.
func (m *Maildir) Close() error { return m.root.Close() }

// maxDepth bounds how deep folders may be nested on disk.
const maxDepth = 64

// Folders lists the folders, sorted by name with INBOX first, and what was left
// out. A Maildir with no folder at all is an error that says what was looked for.
func (m *Maildir) Folders() ([]Folder, []Note, error) {
	s := scan{tree: m, names: make(map[string]string)}
	if m.isFolder(".") {
		s.add(nil, ".")
	}
	if err := s.walk(".", nil, 0); err != nil {
		return nil, nil, err
	}
	if len(s.folders) == 0 && len(s.notes) == 0 {
		return nil, nil, fmt.Errorf("%s is not a Maildir: neither it nor a folder in it has the directories cur and new", m.path)
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
	return s.folders, s.notes, nil
}

// isFolder reports whether a directory has cur or new. (Git and some backup
// programs drop empty directories, so one of the two is enough.)
func (m *Maildir) isFolder(rel string) bool {
	for _, sub := range [...]string{"cur", "new"} {
		if info, err := m.root.Lstat(filepath.Join(rel, sub)); err == nil && info.IsDir() {
			return true
		}
	}
	return false
}

// unread makes a note of something that is not read.
func (m *Maildir) unread(rel string, err error, rest string) Note {
	return Note{fmt.Sprintf("%s: NOT imported: %v%s", filepath.Join(m.path, rel), err, rest), true}
}

type scan struct {
	tree    *Maildir
	folders []Folder
	notes   []Note
	names   map[string]string // name to directory
}

// walk looks for folders in a directory, whose own name has the parts above.
func (s *scan) walk(dir string, above []string, depth int) error {
	if depth > maxDepth {
		s.notes = append(s.notes, s.tree.unread(dir, fmt.Errorf("it is more than %d folders deep", maxDepth), ""))
		return nil
	}
	entries, err := plainfile.ReadDir(s.tree.root, dir)
	if err != nil {
		return fmt.Errorf("cannot read the Maildir: %w", err)
	}
	for _, e := range entries {
		name, sub := e.Name(), filepath.Join(dir, e.Name())
		if (name == "cur" || name == "new" || name == "tmp") && s.tree.isFolder(dir) {
			continue
		}
		if e.Type()&fs.ModeSymlink != 0 {
			s.link(sub)
		}
		if info, err := s.tree.root.Lstat(sub); err != nil || !info.IsDir() {
			continue
		}
		parts := append(slices.Clone(above), name)
		if plus, ok := strings.CutPrefix(name, "."); ok {
			if !s.tree.isFolder(sub) {
				continue // a hidden directory that is none of ours
			}
			parts = append(slices.Clone(above), strings.Split(plus, ".")...)
		}
		if s.tree.isFolder(sub) {
			s.add(parts, sub)
		}
		if err := s.walk(sub, parts, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// link notes a link to a directory. (Where it leads is only looked at.)
func (s *scan) link(rel string) {
	if info, err := os.Stat(filepath.Join(s.tree.path, rel)); err == nil && info.IsDir() {
		s.notes = append(s.notes, s.tree.unread(rel, &plainfile.KindError{Mode: fs.ModeSymlink},
			"; where it leads to a folder, import that on its own, with --mailbox"))
	}
}

// add records a folder under the name that the parts give.
func (s *scan) add(parts []string, rel string) {
	dir := filepath.Join(s.tree.path, rel)
	f := Folder{Name: imap.Inbox, Dir: dir, tree: s.tree, rel: rel}
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
				what := "it is taken as it is"
				if name != raw {
					what = fmt.Sprintf("it becomes %q", name)
				}
				notes = append(notes, fmt.Sprintf("the directory name %q is not in modified UTF-7; %s", raw, what))
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
