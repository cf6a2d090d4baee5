package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"text/template"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/demo"
	"github.com/rookery-mail/rookery/internal/passwd"
	"github.com/rookery-mail/rookery/mailstore"
)

// demoMark is a file that says that a data folder is a demo's, and may be
// emptied.
const demoMark = "DEMO"

// openDemo opens a fresh store with sample mail. A folder that has anything
// else in it than an earlier demo is left alone.
func openDemo(ctx context.Context, path string, t tuning) (*storage, error) {
	dir, err := openDir(nil, path)
	if err != nil {
		return nil, err
	}
	if err := emptyDemo(path); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	s, err := openIn(ctx, dir, t)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	if err := fillDemo(ctx, s.store); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot make the sample mail: %w", err), s.Close())
	}
	return s, nil
}

// emptyDemo removes what an earlier demo has left in a folder that is locked,
// but for the certificate, which people have told their programs to trust.
func emptyDemo(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("cannot read the folder of the demo: %w", err)
	}
	var rest []string
	for _, e := range entries {
		switch e.Name() {
		case "LOCK", "OWNER", "FORMAT", demoMark, "tls-cert.pem", "tls-key.pem":
		default:
			rest = append(rest, e.Name())
		}
	}
	mark := filepath.Join(path, demoMark)
	if _, err := os.Stat(mark); errors.Is(err, fs.ErrNotExist) && len(rest) > 0 {
		return fmt.Errorf("%s has a store that is not a demo's: --demo would delete its mail, and does not. Name another folder with --data, or leave --demo away to serve that store", path)
	}
	if err := os.WriteFile(mark, []byte("This folder belongs to `rookery serve --demo`, which empties it at each start.\n"), 0o600); err != nil {
		return fmt.Errorf("cannot make the folder of the demo: %w", err)
	}
	for _, name := range rest {
		if err := os.RemoveAll(filepath.Join(path, name)); err != nil {
			return fmt.Errorf("cannot empty the folder of the demo: %w", err)
		}
	}
	return nil
}

// fillDemo makes the demo's user and mail.
func fillDemo(ctx context.Context, store *mailstore.Store) error {
	hash, err := passwd.New(demo.Password)
	if err != nil {
		return err
	}
	if err := store.Users().Set(ctx, demo.User, hash); err != nil {
		return err
	}
	a, err := store.Account(ctx, demo.User)
	if err != nil {
		return err
	}
	for _, box := range demo.Mailboxes(time.Now()) {
		var uses []imap.MailboxAttr
		if box.Use != "" {
			uses = []imap.MailboxAttr{box.Use}
		}
		if _, err := a.Create(ctx, box.Name, uses); err != nil && imap.KindOf(err) != imap.Exists {
			return err
		}
		if err := a.Subscribe(ctx, box.Name, true); err != nil {
			return err
		}
		var items []mailstore.AppendItem
		for _, m := range box.Messages {
			u, err := uploadFrom(ctx, a, bytes.NewReader(m.Raw), int64(len(m.Raw)))
			if err != nil {
				return err
			}
			items = append(items, mailstore.AppendItem{Upload: u, Flags: m.Flags, Date: imap.TimeOf(m.Date)})
		}
		if len(items) == 0 {
			continue
		}
		if _, err := a.Append(ctx, box.Name, items); err != nil {
			return err
		}
	}
	return nil
}

const demoNote = `
This is a demo of Rookery. The mail is in {{.Data}}, and every start begins afresh.

  user {{.User}}, password {{.Password}}
{{with .IMAPS}}  IMAP with TLS: host localhost, port {{.}}
{{end}}{{with .IMAP}}  IMAP with STARTTLS: host localhost, port {{.}}
{{end}}  The certificate is self-signed: your program asks once whether to trust it.
{{with .IMAPS}}
Thunderbird  New account, any name and demo@localhost, "Configure manually":
             IMAP, localhost, port {{.}}, SSL/TLS, normal password, user {{$.User}};
             for outgoing mail anything will do. Confirm the security exception.
neomutt      neomutt -f imaps://{{$.User}}:{{$.Password}}@localhost:{{.}}/
curl         curl --cacert {{$.Cert}} --user {{$.User}}:{{$.Password}} \
                  'imaps://localhost:{{.}}/INBOX;MAILINDEX=1'
mbsync       save this as demo.mbsyncrc and run: mkdir -p demo-mail; mbsync -c demo.mbsyncrc demo

  IMAPStore remote
  Host localhost
  Port {{.}}
  SSLType IMAPS
  CertificateFile {{$.Cert}}
  User {{$.User}}
  Pass {{$.Password}}

  MaildirStore local
  Path demo-mail/
  Inbox demo-mail/INBOX
  SubFolders Verbatim

  Channel demo
  Far :remote:
  Near :local:
  Patterns *
  Create Near
{{end}}
Ctrl-C ends it.
`

// printNote says how to connect, with the ports that were taken.
func (d *daemon) printNote() {
	note := struct{ Data, User, Password, IMAP, IMAPS, Cert string }{
		Data: d.cfg.DataDir, User: demo.User, Password: demo.Password,
		IMAP: d.port("imap"), IMAPS: d.port("imaps"), Cert: d.certs.certFile,
	}
	// Programs that are started elsewhere must find it too.
	if abs, err := filepath.Abs(note.Cert); err == nil {
		note.Cert = abs
	}
	t := template.Must(template.New("note").Parse(demoNote))
	if err := t.Execute(d.cfg.Out, note); err != nil {
		d.log.Warn("the note on how to connect could not be written", "err", err)
	}
}

// port returns the port of a listener by its name, or "".
func (d *daemon) port(name string) string {
	ln := d.named[name]
	if ln == nil {
		return ""
	}
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		return ""
	}
	return port
}
