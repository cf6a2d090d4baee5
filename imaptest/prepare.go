package imaptest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// prepare looks whether the server has what a script needs, and fills it for the
// script, with a connection that the script does not show.
func (r *runner) prepare(ctx context.Context, target *Target) error {
	have := map[string]bool{
		plainPort:    r.server.DialPlain != nil,
		canRestart:   r.server.Restart != nil,
		manyAccounts: len(r.server.Users) > 1,
	}
	c, err := connect(ctx, "seed", r.server.Dial, r.log)
	if err != nil {
		return err
	}
	defer c.close()
	if err := r.login(c, ""); err != nil {
		return err
	}
	if err := r.capabilities(c, have); err != nil {
		return err
	}
	for _, need := range r.script.requires(target) {
		if !have[need] && !slices.Contains(abilities, need) {
			return fmt.Errorf("the server does not announce %s, and Target.Lacks does not list it", need)
		}
	}
	if err := r.fill(c); err != nil {
		return err
	}
	_, err = c.simple("LOGOUT", nil)
	r.shown = nil
	return err
}

// login reads the greeting and logs in as user "" (the first) or "2".
func (r *runner) login(c *client, user string) error {
	if err := greeting(c); err != nil {
		return err
	}
	if r.vars["user"+user] == "" {
		return fmt.Errorf("the server has no user %s", user)
	}
	_, err := c.simple(fmt.Sprintf("LOGIN %s %s", quote(r.vars["user"+user]), quote(r.vars["pass"+user])), nil)
	return err
}

func greeting(c *client) error {
	hello, err := c.next()
	if err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	if hello.tag != "*" || hello.status != "OK" {
		return fmt.Errorf("greeting: %q", hello.raw)
	}
	return nil
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// capabilities asks for them; one with a value counts under its whole text and
// under what is before the "=", too.
func (r *runner) capabilities(c *client, have map[string]bool) error {
	list, err := c.simple("CAPABILITY", nil)
	if err != nil {
		return err
	}
	for _, resp := range list {
		if len(resp.nodes) == 0 || !isWord(resp.nodes[0], "CAPABILITY") {
			continue
		}
		for _, n := range resp.nodes[1:] {
			have[n.text] = true
			name, value, _ := strings.Cut(n.text, "=")
			have[name] = true
			if limit, err := strconv.ParseUint(value, 10, 63); err == nil && name == "APPENDLIMIT" {
				r.vars["appendlimit"] = value
				r.vars["toobig"] = strconv.FormatUint(limit+1, 10)
			}
		}
	}
	return nil
}

// fill creates mailboxes, appends the seeds, and selects every mailbox that
// got one, so that nobody else sees these messages as \Recent.
func (r *runner) fill(c *client) error {
	for _, name := range r.script.create {
		if _, err := c.simple("CREATE "+name, nil); err != nil {
			return err
		}
	}
	var filled []string
	for _, m := range r.script.seeds {
		command := "APPEND " + m.mailbox
		for _, part := range []string{m.flags, m.date} {
			if part != "" {
				command += " " + part
			}
		}
		if _, err := c.simple(command+" {@seed}", map[string][]byte{"seed": m.data}); err != nil {
			return err
		}
		if !slices.Contains(filled, m.mailbox) {
			filled = append(filled, m.mailbox)
		}
	}
	for _, name := range filled {
		if _, err := c.simple("SELECT "+name, nil); err != nil {
			return err
		}
	}
	return nil
}

// ready opens a connection in the state that the script's header asks for.
func (r *runner) ready(ctx context.Context, name string) (c *client, err error) {
	s := r.script
	dial := r.server.Dial
	if s.dial == "plain" {
		dial = r.server.DialPlain
	}
	c, err = connect(ctx, name, dial, r.log)
	if err != nil {
		return nil, err
	}
	state, ok := s.states[name]
	if !ok {
		state = s.states[""]
	}
	shown := len(r.shown)
	defer func() {
		if err == nil {
			r.shown = r.shown[:shown]
			c.plain = false
		} else {
			c.close()
		}
	}()
	switch state {
	case "greeting":
		return c, nil
	case "start":
		return c, greeting(c)
	}
	user, ok := s.users[name]
	if !ok {
		user = s.users[""]
	}
	if err = r.login(c, user); err != nil {
		return nil, err
	}
	if s.enable != "" {
		if _, err = c.simple("ENABLE "+s.enable, nil); err != nil {
			return nil, err
		}
	}
	switch state {
	case "auth":
	case "selected":
		_, err = c.simple("SELECT "+s.mailbox, nil)
	case "examined":
		_, err = c.simple("EXAMINE "+s.mailbox, nil)
	default:
		err = fmt.Errorf("unknown state %q", state)
	}
	return c, err
}
