package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
)

// listenTCP opens the listener of a flag, where it has an address.
func (d *daemon) listenTCP(flag, addr string, serve func(net.Listener) error) error {
	if addr == "" {
		return nil
	}
	if err := checkAddress(addr); err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return listenError(flag, addr, err)
	}
	d.serve(strings.TrimPrefix(flag, "--"), ln, serve)
	return nil
}

func (d *daemon) serve(name string, ln net.Listener, serve func(net.Listener) error) {
	d.listeners = append(d.listeners, ln)
	d.named[name] = ln
	d.serving = append(d.serving, func() error { return serve(ln) })
	d.log.Info("listening", "for", name, "addr", ln.Addr().String())
}

// listenLMTP opens the LMTP listener: a port, or a socket.
func (d *daemon) listenLMTP() error {
	path, ok := strings.CutPrefix(d.cfg.LMTP, "unix:")
	if !ok {
		return d.listenTCP("--lmtp", d.cfg.LMTP, d.lmtp.Serve)
	}
	if len(path) > 103 {
		return fmt.Errorf("--lmtp: the path %s has %d bytes, a socket's may have 103: use a shorter one", path, len(path))
	}
	if err := removeDeadSocket(path); err != nil {
		return err
	}
	ln, err := listenPrivate(path)
	if err != nil {
		return listenError("--lmtp", d.cfg.LMTP, err)
	}
	// Whoever can connect can deliver: the MTA comes in by its group, which the
	// socket has from the server's user or from the folder that it is in.
	if err := os.Chmod(path, 0o660); err != nil {
		ln.Close()
		return fmt.Errorf("--lmtp: %w", err)
	}
	d.serve("lmtp", ln, d.lmtp.Serve)
	return nil
}

// removeDeadSocket removes a socket that nobody listens on any more.
func removeDeadSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("--lmtp: %w", err)
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("--lmtp: %s is there already and is not a socket: remove it, or choose another path", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return fmt.Errorf("--lmtp: another program listens on %s: stop it, or choose another path", path)
	}
	return os.Remove(path)
}

func checkAddress(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil || port == "" {
		return fmt.Errorf("%q is not an address: write host:port, for example 127.0.0.1:1143, or :143 for all interfaces", addr)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("%q: %q is not a port: write a number from 0 (any free port) to 65535", addr, port)
	}
	return nil
}

// listenError says what to do about a listener that cannot be opened.
func listenError(flag, addr string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("cannot listen on %s: another program has that port (another rookery?); stop it, or choose another address with %s", addr, flag)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("cannot listen on %s: not permitted. Ports below 1024 need a privilege: choose another with %s, or give this program CAP_NET_BIND_SERVICE", addr, flag)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("cannot listen on %s: this machine does not have that address; choose another with %s", addr, flag)
	}
	return fmt.Errorf("cannot listen on %s (%s): %w", addr, flag, err)
}

// isLoopback reports whether an address can be reached from this machine only.
func isLoopback(addr string) bool {
	if strings.HasPrefix(addr, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
