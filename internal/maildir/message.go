package maildir

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/plainfile"
)

// A Message is one file of a folder.
type Message struct {
	// Base is what names the message for good: the file's name up to its flags,
	// and without the sizes and numbers that Dovecot and mbsync write into it.
	Base string
	// Flags are those of the file's name.
	Flags []imap.Flag
	// Date is the time of the file, which Dovecot and most others take for the
	// internal date.
	Date time.Time
	// Size is that of the file.
	Size int64

	folder *Folder
	rel    string // below the root of the tree
}

// Messages lists the messages of a folder in the order in which they came: as
// dovecot-uidlist has it, where that is kept, else by the times that begin the
// names. The notes say what was odd, such as a letter for a keyword that has no
// name, and what was left out.
func (f *Folder) Messages() ([]Message, []Note, error) {
	l := lister{Folder: f, unnamed: make(map[byte]bool)}
	var err error
	if l.keywords, err = l.readKeywords(); err != nil {
		return nil, nil, err
	}
	for _, sub := range [...]string{"cur", "new"} {
		if err := l.list(sub); err != nil {
			return nil, nil, err
		}
	}
	for c := byte('a'); c <= 'z'; c++ {
		if l.unnamed[c] {
			l.notes = append(l.notes, Note{Text: fmt.Sprintf("%s: some messages have the keyword letter %q, for which dovecot-keywords has no name; it is left out", f.Dir, c)})
		}
	}
	uids, err := l.readUIDList()
	if err != nil {
		return nil, nil, err
	}
	sortMessages(l.msgs, uids)
	return dropTwins(l.msgs), l.notes, nil
}

// lister gathers what is in a folder.
type lister struct {
	*Folder
	keywords map[byte]imap.Flag
	unnamed  map[byte]bool // letters
	msgs     []Message
	notes    []Note
}

// list reads cur or new.
func (l *lister) list(sub string) error {
	dir := filepath.Join(l.rel, sub)
	entries, err := plainfile.ReadDir(l.tree.root, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if kind, ok := errors.AsType[*plainfile.KindError](err); ok {
		l.notes = append(l.notes, l.tree.unread(dir, kind, ""))
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the Maildir: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		rel := filepath.Join(dir, e.Name())
		info, err := l.tree.root.Lstat(rel)
		if errors.Is(err, fs.ErrNotExist) && sub == "new" {
			// A program has just moved it to cur, which has been read.
			info, err = l.findAgain(e.Name())
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot read the Maildir: %w", err)
		}
		if !info.Mode().IsRegular() {
			l.notes = append(l.notes, l.tree.unread(rel, &plainfile.KindError{Mode: info.Mode()}, ""))
			continue
		}
		base, letters := splitName(e.Name())
		l.msgs = append(l.msgs, Message{
			Base: base, Flags: parseFlags(letters, l.keywords, l.unnamed), Date: info.ModTime(), Size: info.Size(),
			folder: l.Folder, rel: rel,
		})
	}
	return nil
}

// findAgain looks for a file of new that has moved.
func (f *Folder) findAgain(name string) (fs.FileInfo, error) {
	base, _ := splitName(name)
	rel, err := f.find(base)
	if err != nil {
		return nil, err
	}
	return f.tree.root.Lstat(rel)
}

// dropTwins keeps one of several files with one base name: the same message,
// met twice while a program was moving it.
func dropTwins(msgs []Message) []Message {
	seen := make(map[string]int, len(msgs))
	out := msgs[:0]
	for _, m := range msgs {
		if i, ok := seen[m.Base]; ok && out[i].Size == m.Size {
			if filepath.Base(filepath.Dir(m.rel)) == "cur" {
				out[i] = m
			}
			continue
		}
		seen[m.Base] = len(out)
		out = append(out, m)
	}
	return out
}

// Open opens the file, which must be a regular one: see package plainfile. When
// another program has renamed it meanwhile, to set a flag say, it is found by its
// base name.
func (m *Message) Open() (*os.File, error) {
	file, err := plainfile.Open(m.folder.tree.root, m.rel)
	if !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	rel, ferr := m.folder.find(m.Base)
	if ferr != nil {
		return nil, err
	}
	return plainfile.Open(m.folder.tree.root, rel)
}

// Path returns where the file was when the folder was listed.
func (m *Message) Path() string { return filepath.Join(m.folder.tree.path, m.rel) }

// find looks for the file with a base name.
func (f *Folder) find(base string) (string, error) {
	for range 2 { // it may move from new to cur between the two looks
		for _, sub := range [...]string{"cur", "new"} {
			dir := filepath.Join(f.rel, sub)
			entries, err := plainfile.ReadDir(f.tree.root, dir)
			if err != nil {
				continue
			}
			for _, e := range entries {
				if b, _ := splitName(e.Name()); b == base {
					return filepath.Join(dir, e.Name()), nil
				}
			}
		}
	}
	return "", fs.ErrNotExist
}

// splitName parts a file's name into what stays and the letters of its flags.
// The mark in front of them is a colon, or what file systems allow that allow
// no colon.
func splitName(name string) (base, letters string) {
	base = name
	if i := strings.LastIndexAny(name, ":;!"); i >= 0 && strings.HasPrefix(name[i+1:], "2,") {
		base, letters = name[:i], name[i+3:]
	} else if i >= 0 && (name[i+1:] == "" || strings.HasPrefix(name[i+1:], "1,")) {
		base = name[:i]
	}
	// ",S=1234,W=1300" are sizes that Dovecot writes, ",U=7" is mbsync's number,
	// which changes when the far side numbers anew.
	for {
		i := strings.LastIndexByte(base, ',')
		if i <= 0 || !isAttribute(base[i+1:]) {
			return base, letters
		}
		base = base[:i]
	}
}

func isAttribute(s string) bool {
	if len(s) < 3 || s[1] != '=' || !strings.Contains("SWUFV", s[:1]) {
		return false
	}
	_, err := strconv.ParseUint(s[2:], 10, 64)
	return err == nil
}

// parseFlags turns letters to flags. Letters without a meaning are recorded
// where they could be keywords, else ignored, as every program does.
func parseFlags(letters string, keywords map[byte]imap.Flag, unnamed map[byte]bool) []imap.Flag {
	var flags []imap.Flag
	for i := range len(letters) {
		var f imap.Flag
		switch c := letters[i]; {
		case c == 'P':
			f = imap.FlagForwarded
		case c == 'R':
			f = imap.FlagAnswered
		case c == 'S':
			f = imap.FlagSeen
		case c == 'T':
			f = imap.FlagDeleted
		case c == 'D':
			f = imap.FlagDraft
		case c == 'F':
			f = imap.FlagFlagged
		case 'a' <= c && c <= 'z':
			if f = keywords[c]; f == "" {
				unnamed[c] = true
			}
		}
		if f != "" && !slices.Contains(flags, f) {
			flags = append(flags, f)
		}
	}
	return flags
}

// readKeywords reads Dovecot's list of keywords: lines "0 $Junk", where 0
// stands for the letter a.
func (l *lister) readKeywords() (map[byte]imap.Flag, error) {
	keywords := make(map[byte]imap.Flag)
	err := l.eachLine("dovecot-keywords", func(line string) {
		number, name, ok := strings.Cut(line, " ")
		n, err := strconv.Atoi(number)
		if ok && err == nil && 0 <= n && n < 26 && imap.ValidKeyword(name) {
			keywords['a'+byte(n)] = imap.Flag(name)
		}
	})
	return keywords, err
}

// readUIDList reads the order of messages from Dovecot's list: a header line,
// then lines "uid [fields] :name".
func (l *lister) readUIDList() (map[string]uint32, error) {
	uids := make(map[string]uint32)
	first := true
	err := l.eachLine("dovecot-uidlist", func(line string) {
		if first {
			first = false
			return
		}
		number, rest, _ := strings.Cut(line, " ")
		n, err := strconv.ParseUint(number, 10, 32)
		if i := strings.IndexByte(rest, ':'); err == nil && i >= 0 {
			base, _ := splitName(rest[i+1:])
			uids[base] = uint32(n)
		}
	})
	return uids, err
}

// eachLine calls fn for the lines of a file, which need not exist.
func (l *lister) eachLine(name string, fn func(line string)) error {
	rel := filepath.Join(l.rel, name)
	file, err := plainfile.Open(l.tree.root, rel)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if kind, ok := errors.AsType[*plainfile.KindError](err); ok {
		l.notes = append(l.notes, l.tree.unread(rel, kind, ""))
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the Maildir: %w", err)
	}
	defer file.Close()
	sc := bufio.NewScanner(file)
	for sc.Scan() {
		fn(strings.TrimSuffix(sc.Text(), "\r"))
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("cannot read %s: %w", filepath.Join(l.tree.path, rel), err)
	}
	return nil
}

// sortMessages sorts by the numbers of the list; messages that it does not
// have come after those, by the time in their names and then by name.
func sortMessages(msgs []Message, uids map[string]uint32) {
	slices.SortStableFunc(msgs, func(a, b Message) int {
		ua, aok := uids[a.Base]
		ub, bok := uids[b.Base]
		switch {
		case aok && bok:
			return cmp.Compare(ua, ub)
		case aok:
			return -1
		case bok:
			return 1
		}
		return cmp.Or(cmp.Compare(nameTime(a), nameTime(b)), strings.Compare(a.Base, b.Base))
	})
}

// nameTime returns the seconds with which a name begins, or else those of the
// file.
func nameTime(m Message) int64 {
	digits := 0
	for digits < len(m.Base) && '0' <= m.Base[digits] && m.Base[digits] <= '9' {
		digits++
	}
	if n, err := strconv.ParseInt(m.Base[:digits], 10, 64); err == nil && digits >= 9 && digits <= 11 {
		return n
	}
	return m.Date.Unix()
}
