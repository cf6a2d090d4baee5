//go:build !unix

package daemon

import "net"

// maxFiles is how many files this process may have open: as many as it likes.
func maxFiles() uint64 { return plenty }

// listenPrivate opens a socket. Its folder says who can connect.
func listenPrivate(path string) (net.Listener, error) { return net.Listen("unix", path) }
