package main

import (
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rookery-mail/rookery/internal/daemon"
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

SIGTERM and SIGINT end the server in order, SIGHUP reads the certificate and the
--passwd file again.`

type serveFlags struct {
	cfg      daemon.Config
	logLevel string
	logJSON  bool
}

func newServe(std streams) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve --data DIR",
		Short: "Serve mail over IMAP, take new mail over LMTP",
		Long:  serveLong,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.complete(std, cmd.Flags().Changed("data")); err != nil {
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
	fl.StringVar(&f.cfg.TLSCert, "tls-cert", "", "`file` with the certificate and its chain (PEM); without it one is made that is self-signed")
	fl.StringVar(&f.cfg.TLSKey, "tls-key", "", "`file` with the certificate's private key (PEM)")
	fl.StringVar(&f.cfg.Passwd, "passwd", "", "`file` of users, lines name:{SCHEME}hash")
	fl.BoolVar(&f.cfg.InsecureAuth, "insecure-auth", false, "take passwords on connections without TLS too")
	fl.BoolVar(&f.cfg.Demo, "demo", false, "begin with a fresh store of sample mail, by default in ./rookery-demo")
	fl.StringVar(&f.logLevel, "log-level", "info", "how much to log: debug, info, warn or error")
	fl.BoolVar(&f.logJSON, "log-json", false, "log in JSON, a line for each record")
	return cmd
}

// complete fills in the rest of the configuration.
func (f *serveFlags) complete(std streams, dataGiven bool) error {
	if f.cfg.Demo && !dataGiven {
		f.cfg.DataDir = "rookery-demo"
	}
	if err := checkData(f.cfg.DataDir); err != nil {
		return err
	}
	for _, addr := range []*string{&f.cfg.IMAP, &f.cfg.IMAPS, &f.cfg.LMTP} {
		if strings.EqualFold(*addr, "off") {
			*addr = ""
		}
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return usage("--log-level is %q; it can be debug, info, warn or error", f.logLevel)
	}
	opts := &slog.HandlerOptions{Level: level}
	if f.logJSON {
		f.cfg.Log = slog.New(slog.NewJSONHandler(std.err, opts))
	} else {
		f.cfg.Log = slog.New(slog.NewTextHandler(std.err, opts))
	}
	f.cfg.Version = version()
	f.cfg.Out = std.out
	return nil
}
