package imapmodel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/rookery-mail/rookery/imap"
)

// State keeps what the framework derives from a model over restarts: UIDs and
// UIDVALIDITY, modification sequences, the history of expunges, identifiers,
// and, where options ask for it, flags and subscriptions. It is a small store
// of named records, one for each user and one for each mailbox; a record of a
// mailbox is written whole when the mailbox changes, some 50 bytes a message.
//
// Names are made of a-z, 0-9, "%", "_", "-" and "/". Only one server at a time
// may use a State. Methods may be called by many goroutines, but never at the
// same time for the same name.
type State interface {
	// Load returns a record, and nil where there is none.
	Load(ctx context.Context, name string) ([]byte, error)
	// Save replaces a record, in one step, and returns when that is durable;
	// data nil removes it. data must not be kept.
	Save(ctx context.Context, name string, data []byte) error
}

// MemoryState is a State in RAM, for tests of what a restart does. The zero
// value is empty and ready to use.
type MemoryState struct {
	mu      sync.Mutex
	records map[string][]byte
}

// Load returns a copy of a record.
func (s *MemoryState) Load(_ context.Context, name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.records[name]), nil
}

// Save keeps a copy of data.
func (s *MemoryState) Save(_ context.Context, name string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.records == nil {
		s.records = map[string][]byte{}
	}
	if data == nil {
		delete(s.records, name)
	} else {
		s.records[name] = slices.Clone(data)
	}
	return nil
}

// DirState is a State in a directory: one file for each record, replaced by
// renaming, synced before and after.
type DirState struct{ dir string }

// NewDirState returns a State in a directory, which is made, readable by its
// owner only, where it is missing.
func NewDirState(dir string) (*DirState, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("imapmodel: state directory: %w", err)
	}
	return &DirState{dir: dir}, nil
}

func (s *DirState) path(name string) string {
	return filepath.Join(s.dir, filepath.FromSlash(name)) + ".rec"
}

// Load reads the record's file.
func (s *DirState) Load(_ context.Context, name string) ([]byte, error) {
	data, err := os.ReadFile(s.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// Save writes a new file and renames it over the old one.
func (s *DirState) Save(_ context.Context, name string, data []byte) error {
	path := s.path(name)
	dir := filepath.Dir(path)
	if data == nil {
		err := os.Remove(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return errors.Join(err, syncDir(dir))
	}
	if err := s.makeDir(dir); err != nil {
		return err
	}
	tmp := path + ".new"
	if err := writeSynced(tmp, data); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(dir)
}

// makeDir makes dir, durably.
func (s *DirState) makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for d := filepath.Dir(dir); ; d = filepath.Dir(d) {
		if err := syncDir(d); err != nil {
			return err
		}
		if d == s.dir || d == filepath.Dir(d) {
			return nil
		}
	}
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir makes changes of a directory durable. Systems that cannot sync a
// directory keep such changes in order by themselves.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) {
		return errors.Join(err, d.Close())
	}
	return d.Close()
}

// stateUser returns a user's name as part of a record's name: readable where
// it is simple, and different for different users also where a file system
// does not know upper case.
func stateUser(user string) string {
	var b strings.Builder
	for i := range len(user) {
		c := user[i]
		if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	if b.Len() > 100 || b.Len() == 0 {
		sum := sha256.Sum256([]byte(user))
		return "_" + hex.EncodeToString(sum[:])
	}
	return "u-" + b.String()
}

func accountRecordName(user string) string { return stateUser(user) + "/account" }

func mailboxRecordName(user string, id imap.ObjectID) string {
	return stateUser(user) + "/mailbox-" + strings.ToLower(string(id))
}
