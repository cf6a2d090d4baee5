// Package passwd keeps passwords: it reads files of lines name:{SCHEME}hash,
// as Dovecot's passwd-file has them, makes new hashes, and checks passwords
// without telling by its timing who exists and without letting a crowd of
// logins take the machine's memory.
//
// It does not know where else users may be kept: package daemon puts the file
// and the store together. Start with [Open] and [Checker].
package passwd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// A File is a file of users. It is safe for concurrent use.
type File struct {
	path string

	mu      sync.RWMutex
	users   map[string]Hash
	hashes  []Hash // of all users, in the order of the lines
	stamp   stamp  // of the content in users
	checked time.Time
	refused stamp // of content that could not be used, so that it is told once
}

// stamp tells versions of the file apart without reading it.
type stamp struct {
	size  int64
	mtime time.Time
}

// Open reads a file of users. A file with a line that makes no sense is
// refused, and the error names every such line by its number: a server that
// starts without one of its users is worse than one that says why it does not.
func Open(path string) (*File, error) {
	f := &File{path: path}
	if _, err := f.load(); err != nil {
		return nil, err
	}
	return f, nil
}

// Lookup returns the hash of a user.
func (f *File) Lookup(name string) (Hash, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	h, ok := f.users[name]
	return h, ok
}

// Hashes returns the hashes of all users, as models for
// [Checker.CheckNobody]. The slice must not be changed.
func (f *File) Hashes() []Hash {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.hashes
}

// Len returns the number of users.
func (f *File) Len() int {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return len(f.users)
}

// Reload reads the file again, whether it has changed or not. When it cannot
// be used the former users stay, and the error says why.
func (f *File) Reload() (users int, err error) { return f.load() }

// Refresh reads the file again if its size or time differ from what was read,
// looking at most once a second. changed reports that there is news: new users,
// or an error that has not been told before.
func (f *File) Refresh(now time.Time) (changed bool, err error) {
	f.mu.Lock()
	if now.Sub(f.checked) < time.Second {
		f.mu.Unlock()
		return false, nil
	}
	f.checked = now
	last, refused := f.stamp, f.refused
	f.mu.Unlock()

	info, err := os.Stat(f.path)
	s := stamp{size: -1} // of a file that cannot be seen
	if err == nil {
		s = stampOf(info)
	}
	if s == last || s == refused {
		return false, nil
	}
	if err != nil {
		f.mu.Lock()
		f.refused = s
		f.mu.Unlock()
		return true, err
	}
	_, err = f.load()
	return true, err
}

func stampOf(info os.FileInfo) stamp { return stamp{info.Size(), info.ModTime()} }

func (f *File) load() (int, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return 0, fmt.Errorf("cannot read the users: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return 0, fmt.Errorf("cannot read the users: %w", err)
	}
	users, hashes, err := parse(f.path, file)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.refused = stampOf(info)
		return 0, err
	}
	f.users, f.hashes, f.stamp, f.refused = users, hashes, stampOf(info), stamp{}
	return len(users), nil
}

// maxLine bounds a line; a hash has some hundred bytes.
const maxLine = 64 << 10

// parse reads all lines and gathers what is wrong with them.
func parse(path string, r io.Reader) (map[string]Hash, []Hash, error) {
	users := make(map[string]Hash)
	first := make(map[string]int)
	var hashes []Hash
	var bad []error
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxLine)
	n := 0
	for sc.Scan() {
		n++
		line := sc.Bytes()
		if n == 1 {
			line = bytes.TrimPrefix(line, []byte("\ufeff")) // editors on Windows write it
		}
		name, h, ok, err := parseLine(line)
		if err == nil && ok && first[name] != 0 {
			err = fmt.Errorf("the user %q is on line %d already; remove one of the two", name, first[name])
		}
		if err != nil {
			bad = append(bad, fmt.Errorf("%s:%d: %w", path, n, err))
			continue
		}
		if ok {
			users[name], first[name] = h, n
			hashes = append(hashes, h)
		}
	}
	if err := sc.Err(); errors.Is(err, bufio.ErrTooLong) {
		bad = append(bad, fmt.Errorf("%s:%d: the line is longer than %d bytes; lines look like name:{SCHEME}hash", path, n+1, maxLine))
	} else if err != nil {
		return nil, nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return users, hashes, errors.Join(bad...)
}

// parseLine reads one line; ok is false for a blank one and a comment.
func parseLine(line []byte) (name string, h Hash, ok bool, err error) {
	line = bytes.TrimSuffix(line, []byte("\r"))
	if t := bytes.TrimSpace(line); len(t) == 0 || t[0] == '#' {
		return "", Hash{}, false, nil
	}
	if !utf8.Valid(line) || bytes.IndexByte(line, 0) >= 0 {
		return "", Hash{}, false, errors.New("the line is not text in UTF-8")
	}
	name, rest, found := strings.Cut(string(line), ":")
	switch name = strings.TrimSpace(name); {
	case !found:
		return "", Hash{}, false, errors.New("there is no colon; lines look like name:{SCHEME}hash")
	case name == "":
		return "", Hash{}, false, errors.New("there is no name in front of the colon; lines look like name:{SCHEME}hash")
	}
	if err := CheckName(name); err != nil {
		return "", Hash{}, false, err
	}
	if !isPlain(rest) {
		// Dovecot's files have more fields, which say nothing to us. A password
		// in the clear may hold colons and blanks; nothing else can.
		rest, _, _ = strings.Cut(strings.TrimSpace(rest), ":")
	}
	h, err = Parse(rest)
	if err != nil {
		return "", Hash{}, false, fmt.Errorf("user %q: %w", name, err)
	}
	return name, h, true, nil
}

func isPlain(s string) bool {
	scheme, _, ok := strings.Cut(strings.TrimPrefix(s, "{"), "}")
	switch strings.ToUpper(scheme) {
	case "PLAIN", "CLEAR", "CLEARTEXT":
		return ok
	}
	return false
}

// CheckName refuses names that no user can have, whether in a file or in the
// store: empty ones, those of more than 255 bytes, and those with blanks, colons
// or control characters, which mail programs or files could not carry.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("the name of the user is empty")
	case len(name) > 255:
		return fmt.Errorf("the user name %.20q... has %d bytes, at most 255 are possible", name, len(name))
	case !utf8.ValidString(name):
		return fmt.Errorf("the user name %q is not text in UTF-8", name)
	}
	for _, r := range name {
		if r == ':' || unicode.IsSpace(r) || unicode.IsControl(r) {
			return fmt.Errorf("the user name %q has a blank, a colon or a control character in it; use letters, digits and marks like . - _ @", name)
		}
	}
	return nil
}
