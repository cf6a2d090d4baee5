// Package daemon is `rookery serve` and what the other commands need of it: it
// puts store, users, certificates and listeners together, ends them in order,
// and opens a data folder either itself or by way of the server that has it.
//
// It speaks no protocol and prints nothing but logs and the demo's note: that is
// done by imapserver, lmtp, admin and cmd/rookery. Start with [Run] and
// [Connect].
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/internal/admin"
	"github.com/rookery-mail/rookery/internal/lmtp"
	"github.com/rookery-mail/rookery/internal/passwd"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
)

// Config is what an operator chooses. DataDir and Log are required, and at
// least one of IMAP and IMAPS.
type Config struct {
	// DataDir has the mail, and is made where it is missing.
	DataDir string
	// IMAP, IMAPS and LMTP are addresses host:port; LMTP may also be a socket,
	// unix:PATH. Empty: that listener is off.
	IMAP, IMAPS, LMTP string
	// Metrics is an address host:port that tells monitoring what the server does,
	// at /metrics, in the text form of Prometheus. Empty: there is none.
	Metrics string
	// TLSCert and TLSKey are files in PEM. Empty: a self-signed certificate is
	// made in DataDir.
	TLSCert, TLSKey string
	// Passwd is a file of users; empty means that only the store has users.
	Passwd string
	// InsecureAuth allows passwords on connections without TLS.
	InsecureAuth bool
	// MaxConns, MaxConnsPerUser and MaxConnsPerAddr bound the IMAP connections; 0
	// is what imapserver.Limits says, or what the open files allow. Negative: no
	// bound.
	MaxConns, MaxConnsPerUser, MaxConnsPerAddr int
	// Relaxed, where it is not 0, lets changes be acknowledged before they are
	// on disk: a crash may take what was acknowledged less than this long ago.
	Relaxed time.Duration
	// Reserve is how many bytes of the disk are kept free; 0 and negative
	// numbers are as in reserve.Options.
	Reserve int64
	// Compress is what is done to messages that come in; those that are there
	// stay as they are, and all are read.
	Compress bloblog.Compression
	// Demo begins with a fresh store of sample mail.
	Demo bool
	// Version is what the server says of itself.
	Version string
	Log     *slog.Logger
	// Out gets the demo's note on how to connect.
	Out io.Writer

	fs vfs.FS // of the store, for tests; nil is the machine's
}

// grace is how long connections and deliveries may take to end.
const grace = 5 * time.Second

// Run serves until ctx ends, and then brings everything to an end in order:
// clients are told, what is under way is finished and brought to disk. It
// returns nil when that has worked.
func Run(ctx context.Context, cfg Config) error {
	d := &daemon{cfg: cfg, log: cfg.Log, named: make(map[string]net.Listener)}
	if err := d.start(ctx); err != nil {
		return errors.Join(err, d.stop())
	}
	err := d.wait(ctx)
	if err := errors.Join(err, d.stop()); err != nil {
		return err
	}
	d.log.Info("stopped")
	return nil
}

// daemon is a server that runs.
type daemon struct {
	cfg     Config
	log     *slog.Logger
	storage *storage
	files   fileBudget
	certs   *certificates
	users   *directory

	imap      *imapserver.Server
	lmtp      *lmtp.Server
	admin     *http.Server
	metrics   *metrics
	scraped   *http.Server // of metrics; nil without a listener
	cleanup   []func()     // when all has ended, in reverse order
	listeners []net.Listener
	named     map[string]net.Listener
	serving   []func() error
	hup       chan os.Signal
	failed    chan error
	broken    chan error // the store cannot be opened again
	running   int
}

func (d *daemon) start(ctx context.Context) error {
	if d.cfg.IMAP == "" && d.cfg.IMAPS == "" {
		return errors.New("neither --imap nor --imaps has an address: there would be nothing to serve")
	}
	// From here on SIGHUP does not end the process: whoever sends it, as soon as
	// the log says ready or before, wants files to be read again.
	d.hup = make(chan os.Signal, 1)
	signal.Notify(d.hup, syscall.SIGHUP)
	d.cleanup = append(d.cleanup, func() { signal.Stop(d.hup) })
	d.users = &directory{checker: passwd.NewChecker(), log: d.log, now: time.Now}
	if d.cfg.Passwd != "" {
		f, err := passwd.Open(d.cfg.Passwd)
		if err != nil {
			return fmt.Errorf("--passwd: %w", err)
		}
		d.users.file = f
	}
	if err := d.openStorage(ctx); err != nil {
		return err
	}
	d.users.store = d.storage.store.Users()
	names, err := d.users.store.List(ctx)
	if err != nil {
		return err
	}
	d.users.stored.Store(len(names) > 0)
	if d.certs, err = loadCertificates(d.cfg.TLSCert, d.cfg.TLSKey, d.cfg.DataDir, time.Now()); err != nil {
		return err
	}
	if err := d.listen(); err != nil {
		return err
	}
	d.warn(len(names))
	d.failed = make(chan error, len(d.serving))
	d.running = len(d.serving)
	for _, serve := range d.serving {
		go func() { d.failed <- serve() }()
	}
	d.keep()
	d.trimBallast()
	if d.cfg.Demo {
		d.printNote()
	}
	d.log.Info("ready", "version", d.cfg.Version, "data", d.cfg.DataDir, "pid", os.Getpid())
	return nil
}

func (d *daemon) openStorage(ctx context.Context) (err error) {
	d.files = budget(maxFiles())
	t := tuning{log: d.log, fs: d.cfg.fs, relaxed: d.cfg.Relaxed, reserve: d.cfg.Reserve, files: d.files, compress: d.cfg.Compress, serving: true}
	if d.cfg.Demo {
		d.storage, err = openDemo(ctx, d.cfg.DataDir, t)
	} else {
		d.storage, err = openTuned(ctx, d.cfg.DataDir, t)
	}
	return err
}

// limits are those of the configuration. What the system allows holds too: a
// client for which there is no file is not even told so.
func (d *daemon) limits() imapserver.Limits {
	l := imapserver.Limits{Connections: d.cfg.MaxConns, ConnectionsPerUser: d.cfg.MaxConnsPerUser, ConnectionsPerAddr: d.cfg.MaxConnsPerAddr}
	if most := d.files.imap; most > 0 && (l.Connections <= 0 || l.Connections > most) {
		if l.Connections != 0 {
			d.log.Warn("--max-connections is more than the open files allow: raise their limit (ulimit -n, LimitNOFILE)", "connections", most)
		}
		l.Connections = most
	}
	return l
}

// listen opens all listeners before any of them is served, so that a port that
// is taken is told at once.
func (d *daemon) listen() error {
	backend, err := d.backend()
	if err != nil {
		return err
	}
	d.metrics = newMetrics(d.storage, func() *imapserver.Server { return d.imap })
	d.imap, err = imapserver.New(backend, d.users, imapserver.Options{
		TLS: d.certs.config(), InsecureAuth: d.cfg.InsecureAuth, Version: d.cfg.Version, Log: d.log,
		Limits: d.limits(), Hooks: d.metrics.hooks(),
	})
	if err != nil {
		return err
	}
	// The servers end by Shutdown, not by a context: that would cut commands off.
	ctx := context.Background()
	if err := d.listenTCP("--imap", d.cfg.IMAP, func(ln net.Listener) error { return d.imap.Serve(ctx, ln) }); err != nil {
		return err
	}
	if err := d.listenTCP("--imaps", d.cfg.IMAPS, func(ln net.Listener) error { return d.imap.ServeTLS(ctx, ln) }); err != nil {
		return err
	}
	if d.cfg.LMTP != "" {
		hostname, _ := os.Hostname()
		temp := filepath.Join(d.cfg.DataDir, "tmp")
		if err := errors.Join(os.RemoveAll(temp), os.Mkdir(temp, 0o700)); err != nil {
			return fmt.Errorf("cannot make a folder for messages that come in: %w", err)
		}
		d.lmtp = lmtp.New(&delivery{d.users, d.storage.store}, lmtp.Options{
			Hostname: hostname, Log: d.log, TempDir: temp, MaxConns: d.files.lmtp, Room: d.storage.guard.Room,
		})
		if err := d.listenLMTP(); err != nil {
			return err
		}
	}
	if err := d.listenMetrics(); err != nil {
		return err
	}
	return d.listenAdmin()
}

func (d *daemon) listenAdmin() error {
	ln, remove, err := admin.Listen(d.cfg.DataDir)
	if err != nil {
		return err
	}
	d.cleanup = append(d.cleanup, remove)
	d.listeners = append(d.listeners, ln)
	d.admin = &http.Server{
		Handler:           admin.Handler(&control{store: d.storage.store, storage: d.storage, metrics: d.metrics, version: d.cfg.Version}, d.log),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
	}
	d.serving = append(d.serving, func() error { return d.admin.Serve(ln) })
	return nil
}

// warn tells an operator what is not as it should be on a network.
func (d *daemon) warn(users int) {
	if d.certs.selfSigned {
		d.log.Warn("using a self-signed certificate: mail programs will ask whether to trust it; give a real one with --tls-cert and --tls-key",
			"file", d.certs.certFile, "sha256", d.certs.fingerprint())
	}
	if d.cfg.InsecureAuth && d.cfg.IMAP != "" && !isLoopback(d.cfg.IMAP) {
		d.log.Warn("--insecure-auth allows passwords in the clear, and --imap can be reached from elsewhere: they can be read on the way", "imap", d.cfg.IMAP)
	}
	if d.cfg.LMTP != "" && !isLoopback(d.cfg.LMTP) {
		d.log.Warn("--lmtp can be reached from elsewhere: whoever connects can deliver mail", "lmtp", d.cfg.LMTP)
	}
	if d.cfg.Metrics != "" && !isLoopback(d.cfg.Metrics) {
		d.log.Warn("--metrics can be reached from elsewhere: whoever connects learns what the server does", "metrics", d.cfg.Metrics)
	}
	if users == 0 && (d.users.file == nil || d.users.file.Len() == 0) {
		d.log.Warn("there are no users yet: add one with `rookery user add NAME --data " + d.cfg.DataDir + "`")
	}
}

// wait returns when ctx ends (nil), or a listener or the store has failed.
func (d *daemon) wait(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			d.log.Info("shutting down")
			return nil
		case <-d.hup:
			d.reload()
		case err := <-d.failed:
			d.running--
			return fmt.Errorf("a listener has failed, shutting down: %w", err)
		case err := <-d.broken:
			return fmt.Errorf("the store has failed, shutting down: %w", err)
		}
	}
}

// keep opens the index again whenever it has failed, in the background. A
// relaxed one may have lost what clients know, so they must begin anew.
func (d *daemon) keep() {
	ctx, stop := context.WithCancel(context.Background())
	d.broken = make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if d.cfg.Relaxed > 0 {
			select {
			case <-d.storage.kv.Failed():
				d.broken <- errors.New("the disk has failed while --durability was relaxed; what was acknowledged in the last second is lost, start again")
			case <-ctx.Done():
			}
			return
		}
		if err := d.storage.kv.Keep(ctx); err != nil {
			d.broken <- fmt.Errorf("it cannot be opened again; look at it with `rookery check --data %s`: %w", d.cfg.DataDir, err)
		}
	}()
	d.cleanup = append(d.cleanup, func() {
		stop()
		<-done
	})
}

// reload reads certificate and users again, on SIGHUP.
func (d *daemon) reload() {
	if err := d.certs.reload(); err != nil {
		d.log.Error("the certificate stays as it was", "err", err)
	} else {
		d.log.Info("the certificate has been read again", "file", d.certs.certFile)
	}
	if d.users.file == nil {
		return
	}
	if n, err := d.users.file.Reload(); err != nil {
		d.log.Error("the users of the passwd file stay as they were", "err", err)
	} else {
		d.log.Info("the passwd file has been read again", "users", n)
	}
}

// stop ends what start has begun, as far as it came.
func (d *daemon) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	ends := make(chan error, 4)
	n := 0
	end := func(what string, fn func(context.Context) error) {
		n++
		go func() {
			if err := fn(ctx); err != nil {
				d.log.Warn("some connections were cut off: they took too long to end", "listener", what, "err", err)
			}
			ends <- nil
		}()
	}
	if d.imap != nil {
		end("imap", d.imap.Shutdown)
	}
	if d.lmtp != nil {
		end("lmtp", d.lmtp.Shutdown)
	}
	for what, server := range map[string]*http.Server{"admin": d.admin, "metrics": d.scraped} {
		if server != nil {
			end(what, func(ctx context.Context) error { return errors.Join(server.Shutdown(ctx), server.Close()) })
		}
	}
	for range n {
		<-ends
	}
	for _, ln := range d.listeners {
		ln.Close() // those that no server had come to serve
	}
	for ; d.running > 0; d.running-- {
		<-d.failed
	}
	for i := len(d.cleanup) - 1; i >= 0; i-- {
		d.cleanup[i]()
	}
	if d.storage == nil {
		return nil
	}
	return d.closeStorage()
}
