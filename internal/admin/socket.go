package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
)

const (
	socketName = "admin.sock"
	// pointerName is a file that says where the socket is, where its path in
	// the data folder would be too long.
	pointerName = "admin.path"
	// maxSocketPath is what every system takes, with the zero at its end.
	maxSocketPath = 103
)

// Listen opens the socket of a data folder, which the caller has locked. What
// an earlier server has left is removed. cleanup removes the socket.
//
// A path of more than 103 bytes cannot name a socket. Then the socket is made
// in a folder of its own in the system's folder for temporary files, and a file
// in the data folder says where.
func Listen(dataDir string) (ln net.Listener, cleanup func(), err error) {
	path := filepath.Join(dataDir, socketName)
	pointer := filepath.Join(dataDir, pointerName)
	remove := func() { os.Remove(path) }
	if old, err := os.ReadFile(pointer); err == nil {
		// Only what has our shape is removed: the file is in our folder, but
		// it takes little to be careful.
		if dir := filepath.Dir(string(old)); strings.HasPrefix(filepath.Base(dir), tempPattern) && filepath.Base(string(old)) == socketName {
			os.Remove(string(old))
			os.Remove(dir)
		}
		os.Remove(pointer)
	}
	if len(path) > maxSocketPath {
		dir, err := os.MkdirTemp("", tempPattern)
		if err != nil {
			return nil, nil, fmt.Errorf("cannot make the admin socket: %w", err)
		}
		path = filepath.Join(dir, socketName)
		if len(path) > maxSocketPath {
			os.Remove(dir)
			return nil, nil, fmt.Errorf("cannot make the admin socket: the path of the data folder (%s) and that of the folder for temporary files (%s) are both too long to name a socket, which may have %d bytes; use a shorter --data, or set TMPDIR to a short path", dataDir, os.TempDir(), maxSocketPath)
		}
		remove = func() { os.Remove(path); os.Remove(dir); os.Remove(pointer) }
		if err := os.WriteFile(pointer, []byte(path), 0o600); err != nil {
			remove()
			return nil, nil, fmt.Errorf("cannot make the admin socket: %w", err)
		}
	} else if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("cannot replace the admin socket that an earlier server left: %w", err)
	}
	ln, err = net.Listen("unix", path)
	if err != nil {
		remove()
		return nil, nil, fmt.Errorf("cannot make the admin socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		remove()
		return nil, nil, fmt.Errorf("cannot make the admin socket: %w", err)
	}
	return ln, remove, nil
}

// tempPattern begins the names of folders for sockets.
const tempPattern = "rookery-admin-"

// findSocket returns the path of a data folder's socket.
func findSocket(dataDir string) (string, error) {
	path := filepath.Join(dataDir, socketName)
	if b, err := os.ReadFile(filepath.Join(dataDir, pointerName)); err == nil {
		path = string(b)
	}
	if len(path) > maxSocketPath {
		return "", fmt.Errorf("%w (%s)", ErrNoServer, dataDir)
	}
	return path, nil
}

func isPermission(err error) bool { return errors.Is(err, fs.ErrPermission) }
