package main

import (
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rookery-mail/rookery/internal/daemon"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
)

const serveLong = `Serve the mail of a data folder over IMAP, and take new mail over LMTP.

By default only programs on this machine can connect. To serve others, say on
which addresses, and give a certificate that their programs trust:

  rookery serve --data /var/lib/rookery --imap :143 --imaps :993 \
      --tls-cert fullchain.pem --tls-key privkey.pem

Passwords are only taken over TLS (the plain port has STARTTLS), unless
--insecure-auth is given.

Users are those of ` + "`rookery user`" + ` and those of the --passwd file, which has
lines name:{SCHEME}hash with the schemes PLAIN, BLF-CRYPT and ARGON2ID (as
` + "`doveadm pw`" + ` writes them). Their accounts are made when they are first needed.
The file is read again when it changes.

LMTP delivers to the INBOX of the recipient: the user named like the whole
address, or else like its local part; +detail is left away. Everyone who can
connect can deliver, so keep the port to the MTA.

What was answered with OK, or with 250 over LMTP, is on disk: a crash of the
program or a power cut does not take it. With --durability relaxed it is on disk
a second later (or one sync of the disk, where that takes longer), and a crash
may take what was answered in the last second: whole commands from the end, in
order; every mailbox then gets a new UIDVALIDITY, so that mail programs fetch
anew. It is for imports that can be repeated and for tests, not for mail that
exists nowhere else.

While less of the disk is free than --reserve says, messages are refused (NO
[UNAVAILABLE], 452 over LMTP), and below a quarter of it all changes. By itself
the server goes on when there is room again, or a disk that failed works again.

--compress zstd makes the mail that comes in about half as large on the disk, and
reading it slower; it can be changed at any start. --metrics tells monitoring what
` + "`rookery status`" + ` tells an operator.

SIGTERM and SIGINT end the server in order, SIGHUP reads the certificate and the
--passwd file again.`

type serveFlags struct {
	cfg        daemon.Config
	durability string
	compress   string
	reserve    string
	logLevel   string
	logJSON    bool
}

func newServe(std streams) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve --data DIR",
		Short: "Serve mail over IMAP, take new mail over LMTP",
		Long:  serveLong,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.complete(std, cmd.Flags().Changed); err != nil {
				return err
			}
			return daemon.Run(cmd.Context(), f.cfg)
		},
	}
	addDataFlag(cmd, &f.cfg.DataDir)
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&f.cfg.IMAP, "imap", "127.0.0.1:1143", "`address` for IMAP with STARTTLS, host:port; \"off\" for none")
	fl.StringVar(&f.cfg.IMAPS, "imaps", "127.0.0.1:1993", "`address` for IMAP over TLS, host:port; \"off\" for none")
	fl.StringVar(&f.cfg.LMTP, "lmtp", "off", "`address` for LMTP, host:port or unix:PATH; \"off\" for none")
	fl.StringVar(&f.cfg.Metrics, "metrics", "off", "`address` where monitoring (Prometheus) is told what the server does, host:port; \"off\" for none")
	fl.StringVar(&f.cfg.TLSCert, "tls-cert", "", "`file` with the certificate and its chain (PEM); without it one is made that is self-signed")
	fl.StringVar(&f.cfg.TLSKey, "tls-key", "", "`file` with the certificate's private key (PEM)")
	fl.StringVar(&f.cfg.Passwd, "passwd", "", "`file` of users, lines name:{SCHEME}hash")
	fl.BoolVar(&f.cfg.InsecureAuth, "insecure-auth", false, "take passwords on connections without TLS too")
	fl.StringVar(&f.durability, "durability", "sync", "`when` changes are acknowledged: sync, when they are on disk; relaxed, up to a second before that")
	fl.StringVar(&f.compress, "compress", "none", "`how` messages that come in are compressed on the disk: none or zstd")
	fl.StringVar(&f.reserve, "reserve", "auto", "`size` that is kept free on the disk, for example 500M; auto is 256M, or 5% of a small disk but 64M at least; 0 is none")
	for _, l := range f.limits() {
		fl.IntVar(l.value, l.flag, l.most, l.help)
	}
	fl.BoolVar(&f.cfg.Demo, "demo", false, "begin with a fresh store of sample mail, by default in ./rookery-demo")
	fl.StringVar(&f.logLevel, "log-level", "info", "how much to log: debug, info, warn or error")
	fl.BoolVar(&f.logJSON, "log-json", false, "log in JSON, a line for each record")
	return cmd
}

// limit is a flag that bounds connections.
type limit struct {
	value *int
	flag  string
	most  int
	help  string
}

// limits are the bounds, with the values that imapserver.Limits has for them.
func (f *serveFlags) limits() []limit {
	return []limit{
		{&f.cfg.MaxConns, "max-connections", 20_000, "how many IMAP `connections` there may be, or as many as the open files (ulimit -n) allow if these are fewer; 0 is no limit"},
		{&f.cfg.MaxConnsPerUser, "max-connections-per-user", 100, "how many `connections` of one user; 0 is no limit"},
		{&f.cfg.MaxConnsPerAddr, "max-connections-per-address", 2_000, "how many `connections` from one address (IPv6: one /64); 0 is no limit"},
	}
}

// complete fills in the rest of the configuration.
func (f *serveFlags) complete(std streams, given func(flag string) bool) error {
	if f.cfg.Demo && !given("data") {
		f.cfg.DataDir = "rookery-demo"
	}
	if err := checkData(f.cfg.DataDir); err != nil {
		return err
	}
	for _, addr := range []*string{&f.cfg.IMAP, &f.cfg.IMAPS, &f.cfg.LMTP, &f.cfg.Metrics} {
		if strings.EqualFold(*addr, "off") {
			*addr = ""
		}
	}
	switch f.durability {
	case "sync":
	case "relaxed":
		f.cfg.Relaxed = time.Second
	default:
		return usage("--durability is %q; it can be sync or relaxed", f.durability)
	}
	for _, l := range f.limits() {
		switch {
		case *l.value < 0:
			return usage("--%s is %d; it can be a number of connections, or 0 for no limit", l.flag, *l.value)
		case !given(l.flag):
			*l.value = 0
		case *l.value == 0:
			*l.value = -1
		}
	}
	var err error
	if f.cfg.Compress, err = bloblog.ParseCompression(f.compress); err != nil {
		return usage("--compress: %w", err)
	}
	if f.cfg.Reserve, err = parseReserve(f.reserve); err != nil {
		return err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return usage("--log-level is %q; it can be debug, info, warn or error", f.logLevel)
	}
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: shortError}
	if f.logJSON {
		f.cfg.Log = slog.New(slog.NewJSONHandler(std.err, opts))
	} else {
		f.cfg.Log = slog.New(slog.NewTextHandler(std.err, opts))
	}
	f.cfg.Version = version()
	f.cfg.Out = std.out
	return nil
}

// parseReserve returns the size for daemon.Config.
func parseReserve(s string) (int64, error) {
	if strings.EqualFold(s, "auto") {
		return 0, nil
	}
	digits := strings.TrimRight(s, "KMGTkmgt")
	shift, known := map[string]int{"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[strings.ToUpper(s[len(digits):])]
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || !known || n > math.MaxInt64>>shift {
		return 0, usage("--reserve is %q; it can be a number of bytes, or one with K, M, G or T behind it, or auto", s)
	}
	if n == 0 {
		return -1, nil
	}
	return int64(n << shift), nil
}
