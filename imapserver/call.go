package imapserver

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapwire"
)

// Call is one command that a client has given. It is valid until the command
// ends, and used by the goroutine that runs it.
type Call struct {
	Conn *Conn
	Tag  string
	Name string // as in the command table; with "UID " in front in the UID form
	UID  bool

	cmd    *Command
	code   string       // response code of the tagged OK
	text   string       // text of the tagged OK
	stored *storeReport // what a STORE did, for the flags to be told

	misuse    error  // what an extension did wrong while the command was read
	badName   error  // a mailbox name that parsed and cannot be one
	typedName string // the last mailbox name as the client gave it
	befores   []func()

	charset      string // of SEARCH
	searchModSeq bool   // SEARCH looks at mod-sequences
}

// OK sets response code (without brackets, may be empty) and text of the
// tagged OK. The text may be UTF-8; clients that have not enabled that are shown
// question marks. A code that cannot stand in brackets on one line is left out
// and logged.
func (c *Call) OK(code, text string) { c.code, c.text = code, text }

// before arranges for f to be called when the command has been read.
func (c *Call) before(f func()) { c.befores = append(c.befores, f) }

// Writer returns where untagged responses go. Whole lines must be written.
func (c *Call) Writer() *imapwire.Encoder { return c.Conn.enc }

// Account returns the account of the user who is logged in.
func (c *Call) Account() Account { return c.Conn.login.account }

// serveCommand is the spine: it reads one command, runs it and replies. An
// error ends the connection. mu is held.
func (c *Conn) serveCommand(ctx context.Context) error {
	c.dec.Begin()
	c.reading.Store(true)
	defer c.reading.Store(false)
	call, err := c.readCommand()
	if call == nil {
		return c.refuse("*", err)
	}
	var run Run
	if err == nil {
		run, err = c.parse(call)
	}
	if err != nil {
		return c.refuse(call.Tag, err)
	}
	c.reading.Store(false)
	c.counts.badInARow = 0
	if err = c.runCommand(ctx, call, run); err == errIdles {
		return nil // idleOn finishes it
	}
	return c.finish(ctx, call, err)
}

// readCommand reads tag and name and looks the command up. It returns nil when
// there is no tag to reply to.
func (c *Conn) readCommand() (*Call, error) {
	d := c.dec
	tag := d.Tag()
	if d.Err() != nil {
		return nil, d.Err()
	}
	if next := d.Peek(); next != ' ' && next != '\n' {
		d.Fail("a tag of letters and digits", "")
		return nil, d.Err()
	}
	if name := strings.ToUpper(tag); d.AtEOL() && (name == "DONE" || c.srv.reg.commands[name] != nil) {
		// A command without its tag, or DONE when IDLE is over: taken for a tag,
		// the reply would belong to nothing that the client waits for.
		return nil, bad("%s needs a tag in front of it", name)
	}
	call := &Call{Conn: c, Tag: tag}
	d.SP()
	call.Name = strings.ToUpper(d.Atom())
	if d.Err() == nil && call.Name == "UID" {
		d.SP()
		call.UID, call.Name = true, strings.ToUpper(d.Atom())
	}
	if next := d.Peek(); next != ' ' && next != '\n' {
		d.Fail("a space or the line's end behind the command's name", "")
	}
	if d.Err() != nil {
		return call, d.Err()
	}
	cmd := c.srv.reg.commands[call.Name]
	if call.UID {
		call.Name = "UID " + call.Name
	}
	switch {
	case cmd == nil || call.UID && !cmd.UID:
		return call, bad("Unknown command %s", quoteArg(call.Name))
	case !cmd.States.Has(c.state()):
		return call, bad("%s", wrongState(call.Name, c.state(), cmd.States))
	}
	call.cmd = cmd
	return call, nil
}

// wrongState says why a command cannot be given now.
func wrongState(name string, is, needs States) string {
	switch {
	case is == NotAuthenticated:
		return name + " is possible after login only"
	case needs == NotAuthenticated:
		return name + " is possible before login only; you are logged in already"
	}
	return name + " needs a selected mailbox; give SELECT or EXAMINE first"
}

// quoteArg shows a client a piece of what it sent.
func quoteArg(s string) string {
	if len(s) > 40 {
		s = s[:40] + "..."
	}
	return `"` + cleanText(s) + `"`
}

// parse reads the arguments and, unless the command reads on, the line's end.
func (c *Conn) parse(call *Call) (Run, error) {
	run := call.cmd.Parse(call, c.dec)
	if !call.cmd.Stream {
		c.dec.CRLF()
	}
	if err := c.dec.Err(); err != nil {
		return nil, err
	}
	if run == nil && call.misuse == nil {
		call.misuse = errors.New("the command's Parse has returned nil")
	}
	if call.misuse != nil {
		err := imap.E("parse "+call.Name, imap.ServerBug, call.misuse)
		return func(context.Context) error { return err }, nil
	}
	if call.badName != nil && !call.cmd.Stream {
		return func(context.Context) error { return call.badName }, nil
	}
	return run, nil
}

// refuse answers a command that cannot be run, and skips what is left of it.
func (c *Conn) refuse(tag string, err error) error {
	if !isSyntax(err) {
		return c.readFailed(err) // the transport failed
	}
	c.log().Debug("command refused", "tag", tag, "err", err)
	skipErr := c.dec.DiscardCommand()
	if skipErr != nil && !errors.Is(skipErr, imapwire.ErrSkipTooLarge) {
		return c.skipFailed(skipErr) // there is no end of the command to reply to
	}
	c.reply(tag, c.replyTo(err))
	c.counts.badInARow++
	c.countCommand()
	switch {
	case skipErr != nil:
		return c.skipFailed(skipErr)
	case c.counts.badInARow >= c.srv.limits.BadCommands:
		return c.hang(&hangUp{"CLIENTBUG", "Too many bad commands in a row"})
	}
	return c.checkLoginCommands()
}

// skipFailed ends a connection whose stream cannot be read on.
func (c *Conn) skipFailed(err error) error {
	if errors.Is(err, imapwire.ErrSkipTooLarge) {
		return c.hang(&hangUp{"TOOBIG", "What was refused is too large to be skipped"})
	}
	return c.readFailed(err)
}

// isSyntax reports whether err is the client's doing and the connection goes on.
func isSyntax(err error) bool {
	var e *imap.Error
	return imapwire.Recoverable(err) || errors.As(err, &e)
}

// hang says BYE.
func (c *Conn) hang(h *hangUp) error {
	c.sendBye(h.code, h.text)
	return h
}

func (c *Conn) countCommand() {
	c.counts.commands++
	c.noteCommand()
}

// noteCommand brings Info up to date after a command: until then Info.Commands
// is how many came before it.
func (c *Conn) noteCommand() {
	n := c.counts.commands
	c.info.set(func(i *ConnInfo) { i.Commands, i.LastActive = n, c.srv.now() })
}

// checkLoginCommands ends a connection that does everything but log in.
func (c *Conn) checkLoginCommands() error {
	if c.login.account == nil && c.counts.commands >= c.srv.limits.LoginCommands && !c.ending {
		return c.hang(&hangUp{"CLIENTBUG", "Too many commands before login"})
	}
	return nil
}

// runCommand runs a command between its hooks, with its limit of time.
func (c *Conn) runCommand(ctx context.Context, call *Call, run Run) error {
	ctx, done := c.limitCommand(ctx)
	defer done()
	if hook := c.srv.opts.Hooks.CommandBegun; hook != nil {
		if err := hook(ctx, c, call.Name); err != nil {
			return c.streamRefused(call, err)
		}
	}
	return c.told(ctx, call, func() error {
		for _, f := range call.befores {
			f()
		}
		err := run(ctx)
		if tooLong := context.Cause(ctx); err != nil && tooLong == errTooLong && errors.Is(err, context.Canceled) {
			err = &imap.Error{Kind: imap.Unavailable, Text: "The command took too long", Err: err}
		}
		return err
	})
}

// told runs a command, and tells the hook how it has ended if it has.
func (c *Conn) told(ctx context.Context, call *Call, run func() error) (err error) {
	err = errPanicked // unless it returns
	defer func() {
		if err != errIdles {
			c.commandEnded(ctx, call, err)
		}
	}()
	return run()
}

// errPanicked is what Hooks.CommandEnded is told of a command that did not
// return.
var errPanicked = errors.New("imapserver: the command panicked")

// commandEnded calls the hook for a command that CommandBegun has allowed.
func (c *Conn) commandEnded(ctx context.Context, call *Call, err error) {
	hook := c.srv.opts.Hooks.CommandEnded
	if hook == nil {
		return
	}
	if errors.Is(err, errReplied) || errors.Is(err, errLogout) {
		err = nil // they say how the command ended, not that it failed
	}
	hook(ctx, c, call.Name, err)
}

// streamRefused skips what a command would have read itself.
func (c *Conn) streamRefused(call *Call, err error) error {
	if call.cmd.Stream {
		if skipErr := c.dec.DiscardCommand(); skipErr != nil {
			return skipErr
		}
	}
	return err
}

// finish tells the client what has changed and gives the tagged reply.
func (c *Conn) finish(ctx context.Context, call *Call, err error) error {
	c.counts.commands++
	defer c.noteCommand()
	var h *hangUp
	var dead *broken
	switch {
	case errors.Is(err, errReplied):
		return nil
	case errors.As(err, &dead):
		return c.readFailed(dead.error)
	case errors.As(err, &h):
		return c.hang(h)
	case errors.Is(err, errLogout):
		c.reply(call.Tag, reply{"OK", "", "Goodbye"})
		return errLogout
	case c.enc.Err() != nil:
		return c.enc.Err()
	case c.dec.Err() != nil: // of a command that reads on while it runs
		return c.refuse(call.Tag, c.dec.Err())
	}
	if err != nil && call.cmd.Stream {
		// What it has not read is skipped, never run.
		if skipErr := c.dec.DiscardCommand(); skipErr != nil {
			return c.skipFailed(skipErr)
		}
	}
	c.writeQueued()
	if ferr := c.updateView(ctx, call); ferr != nil && err == nil {
		err = ferr
	}
	if c.ending {
		return io.EOF
	}
	r := reply{"OK", call.code, call.text}
	if r.text == "" {
		r.text = call.Name + " completed"
	}
	switch {
	case err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()):
		r = reply{"NO", "UNAVAILABLE", "The server is shutting down"}
	case err != nil:
		r = c.replyTo(err)
		if isInternal(err) {
			c.log().Error("command failed", "user", c.login.user, "command", call.Name, "mailbox", c.selectedName(), "err", err)
		}
		if errors.Is(err, context.DeadlineExceeded) { // of the model's own
			r = reply{"NO", "UNAVAILABLE", "The command took too long"}
		}
	}
	c.reply(call.Tag, r)
	return c.checkLoginCommands()
}

// updateView tells what changed in the selected mailbox, as far as the command
// that is ending allows it.
func (c *Conn) updateView(ctx context.Context, call *Call) error {
	if c.sel == nil {
		return nil
	}
	mode := flushAll
	if call.cmd.KeepSeq && !call.UID || call.cmd.KeepSeqUID && call.UID {
		mode = flushKeepSeq
	}
	err := c.sel.flush(ctx, c, mode, call.stored)
	if errors.Is(err, imap.NotFound) {
		// Deleted by another session (RFC 9051 section 6.3.4 leaves it open
		// what happens then): there is nothing left to be selected.
		return c.hang(&hangUp{"", "The selected mailbox has been deleted"})
	}
	return err
}

func (c *Conn) selectedName() string {
	if c.sel == nil {
		return ""
	}
	return c.sel.name
}
