//go:build !unix

package daemon

import "net"

// maxFiles is how many files this process may have open: as many as it likes.
func maxFiles() uint64 { return plenty }

// maxFileSize is how large this process may make a file: as large as it likes.
func maxFileSize() int64 { return 0 }

// listenPrivate opens a socket. Its folder says who can connect.
func listenPrivate(path string) (net.Listener, error) { return net.Listen("unix", path) }
