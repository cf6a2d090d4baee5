package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rookery-mail/rookery/mailstore/datadir"
)

// ManifestName is the file of a backup that says what belongs to it.
const ManifestName = "backup.json"

const manifestVersion = 1

// Manifest describes a backup.
type Manifest struct {
	Version int       `json:"manifest"`
	Format  int       `json:"format"`  // of the store, as in its file FORMAT
	Program string    `json:"program"` // the version that made it
	Created time.Time `json:"created"` // the moment that the backup shows
	Files   []File    `json:"files"`
}

// File is a file of a backup.
type File struct {
	Path   string `json:"path"` // with slashes, in the folder of the backup
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // in hexadecimal digits
	// Damaged says that messages in it were damaged already in the store.
	Damaged bool `json:"damaged,omitempty"`
}

// Read reads the manifest of a backup.
func Read(dir string) (*Manifest, error) {
	b, err := os.ReadFile(filepath.Join(dir, ManifestName))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("there is no folder %s", dir)
		}
		return nil, fmt.Errorf("%s is not a backup: it has no %s", dir, ManifestName)
	}
	if err != nil {
		return nil, err
	}
	m := &Manifest{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", filepath.Join(dir, ManifestName), err)
	}
	if m.Version > manifestVersion || m.Format > datadir.Version {
		return nil, fmt.Errorf("the backup %s was made by a newer release (%s): use that one, or a newer one", dir, m.Program)
	}
	if m.Format < datadir.Oldest {
		return nil, fmt.Errorf("the backup %s has a store of format %d, which no release has written, and this one knows formats from %d on: use another backup", dir, m.Format, datadir.Oldest)
	}
	for _, f := range m.Files {
		if !fs.ValidPath(f.Path) || f.Size < 0 || len(f.SHA256) != 2*sha256.Size {
			return nil, fmt.Errorf("%s is damaged: it names a file %q", filepath.Join(dir, ManifestName), f.Path)
		}
	}
	return m, nil
}

// Bytes is how much the files of the backup have together.
func (m *Manifest) Bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

func (m *Manifest) byPath() map[string]File {
	files := make(map[string]File, len(m.Files))
	for _, f := range m.Files {
		files[f.Path] = f
	}
	return files
}

func (m *Manifest) write(dir string) error {
	slices.SortFunc(m.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	b, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return err
	}
	_, _, err = writeFile(context.Background(), filepath.Join(dir, ManifestName), bytes.NewReader(append(b, '\n')), nil)
	return err
}

// writeFormat writes the file that makes a store of a folder, durably.
func writeFormat(dir string, format int) error {
	text := fmt.Sprintf("rookery store\nformat %d\n", format)
	if _, _, err := writeFile(context.Background(), filepath.Join(dir, formatName), strings.NewReader(text), nil); err != nil {
		return err
	}
	return errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
}

// A Problem is a file that is not as it was when the backup was made.
type Problem struct {
	Path string
	Text string
}

// Verify compares a backup with its checksums. done is told how many bytes have
// been read; it may be nil.
func Verify(ctx context.Context, dir string, m *Manifest, done func(n int64)) ([]Problem, error) {
	var problems []Problem
	for _, f := range m.Files {
		sum, n, err := hashFile(ctx, filepath.Join(dir, filepath.FromSlash(f.Path)), done)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			problems = append(problems, Problem{f.Path, "is missing"})
		case err != nil:
			problems = append(problems, Problem{f.Path, err.Error()})
		case n != f.Size:
			problems = append(problems, Problem{f.Path, fmt.Sprintf("has %d bytes, and had %d", n, f.Size)})
		case sum != f.SHA256:
			problems = append(problems, Problem{f.Path, "does not match its checksum"})
		}
	}
	files := m.byPath()
	for _, sub := range []string{indexDir, messagesDir} {
		names, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, n := range names {
			name := path.Join(sub, n.Name())
			if _, ok := files[name]; !ok && n.Name() != "LOCK" {
				problems = append(problems, Problem{name, "is not from the backup: has a server had this folder?"})
			}
		}
	}
	return problems, nil
}
