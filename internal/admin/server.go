package admin

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/mailimport"
)

// Handler serves a Service over HTTP.
func Handler(s Service, log *slog.Logger) http.Handler {
	h := handler{s, log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", h.answer(func(r *http.Request) (any, error) { return s.Status(r.Context()) }))
	mux.HandleFunc("GET /v1/numbers", h.answer(func(r *http.Request) (any, error) { return s.Numbers(r.Context()) }))
	mux.HandleFunc("GET /v1/users", h.answer(func(r *http.Request) (any, error) { return s.Users(r.Context()) }))
	mux.HandleFunc("POST /v1/users", h.answer(h.addUser))
	mux.HandleFunc("PUT /v1/users/{name}", h.answer(h.setPassword))
	mux.HandleFunc("DELETE /v1/users/{name}", h.answer(func(r *http.Request) (any, error) {
		name := r.PathValue("name")
		return nil, h.note("user removed", name, s.RemoveUser(r.Context(), name))
	}))
	mux.HandleFunc("POST /v1/import/prepare", h.answer(h.prepare))
	mux.HandleFunc("POST /v1/import/known", h.answer(h.known))
	mux.HandleFunc("POST /v1/import/messages", h.answer(h.messages))
	mux.HandleFunc("POST /v1/check", h.stream(h.check))
	mux.HandleFunc("POST /v1/index", h.stream(h.index))
	mux.HandleFunc("POST /v1/backup", h.stream(h.backup))
	mux.HandleFunc("POST /v1/restore/prepare", h.answer(h.prepareRestore))
	profiles(mux)
	mux.HandleFunc("/", h.answer(func(r *http.Request) (any, error) {
		return nil, &imap.Error{Op: "admin", Kind: imap.Cannot,
			Err: errors.New("the running server does not know this request: it is of another version than this command; use the same rookery for both, or restart the server")}
	}))
	return mux
}

type handler struct {
	s   Service
	log *slog.Logger
}

// maxRequest bounds a request that is JSON and nothing else.
const maxRequest = 4 << 20

// answer runs fn and sends what it returns.
func (h handler) answer(fn func(r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := fn(r)
		// What is left of the request is read, so that the client, which is still
		// writing, gets to reading the answer.
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			h.log.Debug("admin request failed", "path", r.URL.Path, "err", err)
			w.WriteHeader(http.StatusUnprocessableEntity)
			v = errorAnswer{Error: err.Error(), Kind: uint8(imap.KindOf(err))}
		}
		if v == nil {
			v = struct{}{}
		}
		if err := json.NewEncoder(w).Encode(v); err != nil {
			h.log.Debug("admin answer not sent", "path", r.URL.Path, "err", err)
		}
	}
}

func decode(r *http.Request, v any) error {
	if err := json.NewDecoder(io.LimitReader(r.Body, maxRequest)).Decode(v); err != nil {
		return fmt.Errorf("the request is not understood: %w", err)
	}
	return nil
}

func (h handler) addUser(r *http.Request) (any, error) {
	var req userRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	return nil, h.note("user added", req.Name, h.s.AddUser(r.Context(), req.Name, req.Hash))
}

// note logs what has been done.
func (h handler) note(what, user string, err error) error {
	if err == nil {
		h.log.Info(what, "user", user)
	}
	return err
}

func (h handler) setPassword(r *http.Request) (any, error) {
	var req userRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	name := r.PathValue("name")
	return nil, h.note("password changed", name, h.s.SetPassword(r.Context(), name, req.Hash))
}

func (h handler) prepare(r *http.Request) (any, error) {
	var req knownRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	return nil, h.s.Import(req.User).Prepare(r.Context(), req.Mailbox)
}

func (h handler) known(r *http.Request) (any, error) {
	var req knownRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	known, err := h.s.Import(req.User).Known(r.Context(), req.Keys)
	return knownAnswer{known}, err
}

// messages takes a batch. Its bytes are not kept: they go on as they come.
func (h handler) messages(r *http.Request) (any, error) {
	br := bufio.NewReaderSize(r.Body, 64<<10)
	line, err := readLine(br)
	if err != nil {
		return nil, fmt.Errorf("the request is not understood: %w", err)
	}
	var req importHeader
	if err := json.Unmarshal(line, &req); err != nil {
		return nil, fmt.Errorf("the request is not understood: %w", err)
	}
	stream := &itemStream{br: br}
	items := make([]mailimport.Item, len(req.Items))
	for i, it := range req.Items {
		if it.Size < 0 {
			return nil, fmt.Errorf("the request is not understood: a message of %d bytes", it.Size)
		}
		flags := make([]imap.Flag, len(it.Flags))
		for j, f := range it.Flags {
			flags[j] = imap.Flag(f)
		}
		items[i] = mailimport.Item{Key: it.Key, Flags: flags, Date: imap.Time(it.Date), Size: it.Size,
			Open: func() (io.ReadCloser, error) { return stream.open(i, req.Items) }}
	}
	return nil, h.s.Import(req.User).Import(r.Context(), req.Mailbox, items)
}

// readLine reads a line of at most maxRequest bytes.
func readLine(br *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := br.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case len(line) > maxRequest:
			return nil, errors.New("its first line is too long")
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// itemStream gives out messages that come one after the other.
type itemStream struct {
	br   *bufio.Reader
	next int   // the item that comes next
	left int64 // bytes of the item before it that have not been read
}

// open skips to item i; items that come before it are lost.
func (s *itemStream) open(i int, items []importItem) (io.ReadCloser, error) {
	if i < s.next {
		return nil, errors.New("a message was asked for after it had gone by")
	}
	skip := s.left
	for ; s.next < i; s.next++ {
		skip += items[s.next].Size
	}
	if _, err := io.CopyN(io.Discard, s.br, skip); err != nil {
		return nil, err
	}
	s.next, s.left = i+1, items[i].Size
	return io.NopCloser(s), nil
}

// Read reads from the item that is open.
func (s *itemStream) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n, err := s.br.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	if err == io.EOF && s.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// ErrNoServer means that no server has the data folder.
const ErrNoServer = sentinel("no server is running on this data folder")

type sentinel string

func (s sentinel) Error() string { return string(s) }
