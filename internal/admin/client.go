package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/mailimport"
)

// Client is a Service on the other side of the socket.
type Client struct{ http *http.Client }

// Dial reaches the server that has a data folder. The error wraps ErrNoServer
// where there is none.
func Dial(ctx context.Context, dataDir string) (*Client, error) {
	path, err := findSocket(dataDir)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
		if isPermission(err) {
			return nil, fmt.Errorf("a server has the data folder %s, but its socket %s cannot be opened: run this as the user who runs the server", dataDir, path)
		}
		return nil, fmt.Errorf("%w (%s): %w", ErrNoServer, dataDir, err)
	}
	conn.Close()
	return &Client{&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", path) },
	}}}, nil
}

// Close gives the connections back.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// do sends a request and decodes the answer into v, where that is not nil.
func (c *Client) do(ctx context.Context, method, path string, body io.Reader, v any) error {
	resp, err := c.request(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if v == nil {
		v = &struct{}{}
	}
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		return fmt.Errorf("the running server's answer to %s is not understood: %w", path, err)
	}
	return nil
}

// request sends a request and returns the answer, the body of which the caller
// closes. An answer that is an error is returned as that.
func (c *Client) request(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://rookery"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("the connection to the running server broke off (has it been stopped? Then run the command again): %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var e errorAnswer
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxRequest)).Decode(&e); err != nil || e.Error == "" {
		return nil, fmt.Errorf("the running server answered %q to %s", resp.Status, path)
	}
	return nil, &remoteError{e.Error, imap.Kind(e.Kind)}
}

// remoteError is an error of the other side: its text and its kind.
type remoteError struct {
	text string
	kind imap.Kind
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }

func (c *Client) send(ctx context.Context, method, path string, in, out any) error {
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return c.do(ctx, method, path, bytes.NewReader(b), out)
}

// Status implements Service.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	err = c.do(ctx, http.MethodGet, "/v1/status", nil, &s)
	return s, err
}

// Numbers implements Service.
func (c *Client) Numbers(ctx context.Context) (list []Number, err error) {
	err = c.do(ctx, http.MethodGet, "/v1/numbers", nil, &list)
	return list, err
}

// Users implements Service.
func (c *Client) Users(ctx context.Context) (users []User, err error) {
	err = c.do(ctx, http.MethodGet, "/v1/users", nil, &users)
	return users, err
}

// AddUser implements Service.
func (c *Client) AddUser(ctx context.Context, name, hash string) error {
	return c.send(ctx, http.MethodPost, "/v1/users", userRequest{Name: name, Hash: hash}, nil)
}

// SetPassword implements Service.
func (c *Client) SetPassword(ctx context.Context, name, hash string) error {
	return c.send(ctx, http.MethodPut, "/v1/users/"+url.PathEscape(name), userRequest{Hash: hash}, nil)
}

// RemoveUser implements Service.
func (c *Client) RemoveUser(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, "/v1/users/"+url.PathEscape(name), nil, nil)
}

// Import implements Service.
func (c *Client) Import(user string) mailimport.Target { return &remoteTarget{c, user} }

type remoteTarget struct {
	c    *Client
	user string
}

// Prepare implements mailimport.Target.
func (t *remoteTarget) Prepare(ctx context.Context, mailbox string) error {
	return t.c.send(ctx, http.MethodPost, "/v1/import/prepare", knownRequest{User: t.user, Mailbox: mailbox}, nil)
}

// Known implements mailimport.Target.
func (t *remoteTarget) Known(ctx context.Context, keys []string) ([]bool, error) {
	var a knownAnswer
	err := t.c.send(ctx, http.MethodPost, "/v1/import/known", knownRequest{User: t.user, Keys: keys}, &a)
	return a.Known, err
}

// Import implements mailimport.Target.
func (t *remoteTarget) Import(ctx context.Context, mailbox string, items []mailimport.Item) error {
	head := importHeader{User: t.user, Mailbox: mailbox, Items: make([]importItem, len(items))}
	for i, it := range items {
		flags := make([]string, len(it.Flags))
		for j, f := range it.Flags {
			flags[j] = string(f)
		}
		head.Items[i] = importItem{Key: it.Key, Flags: flags, Date: int64(it.Date), Size: it.Size}
	}
	line, err := json.Marshal(head)
	if err != nil {
		return err
	}
	pr, pw := io.Pipe()
	go func() {
		_, err := pw.Write(append(line, '\n'))
		for i := 0; err == nil && i < len(items); i++ {
			err = copyItem(pw, items[i])
		}
		pw.CloseWithError(err)
	}()
	defer pr.Close()
	return t.c.do(ctx, http.MethodPost, "/v1/import/messages", pr, nil)
}

// copyItem writes a message, which must have the size that was announced.
func copyItem(w io.Writer, it mailimport.Item) error {
	r, err := it.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.Copy(w, io.LimitReader(r, it.Size))
	if err == nil && n < it.Size {
		err = errors.New("a message changed while it was being imported: run the import again")
	}
	return err
}
