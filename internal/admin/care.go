package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/rookery-mail/rookery/imap"
)

// Care is what an operator can ask for the store's well-being. It is the part
// of [Service] whose work takes long, so that it tells how it goes on; report
// is called from one goroutine.
type Care interface {
	// Check looks for whatever is wrong with the store, and changes nothing.
	// Each defect is reported. The error is for what keeps the check from being
	// made.
	Check(ctx context.Context, report func(Event)) (CheckResult, error)
	// Index tells how far the indexes are that searches use, of one user or of
	// all, and makes them anew first where that is asked for.
	Index(ctx context.Context, req IndexRequest, report func(Event)) ([]IndexState, error)
	// Backup writes a backup into a folder of the machine that the store is on.
	Backup(ctx context.Context, req BackupRequest, report func(Event)) (BackupResult, error)
	// PrepareRestore makes the mailboxes that a restore fills by way of Import.
	// Kind Exists where there is mail already.
	PrepareRestore(ctx context.Context, plan RestorePlan) error
}

// Event is what happens in the course of long work: progress, or a defect.
type Event struct {
	Done   int64   `json:"done,omitempty"`  // bytes; of an index, messages
	Total  int64   `json:"total,omitempty"` // about that many
	Defect *Defect `json:"defect,omitempty"`
}

// Defect is something that is wrong with the store. Fields are empty where it
// is not about one account, mailbox, message or file.
type Defect struct {
	Account string `json:"account,omitempty"`
	Mailbox string `json:"mailbox,omitempty"`
	UID     uint32 `json:"uid,omitempty"`
	File    string `json:"file,omitempty"`
	// Segment is the file of messages that a damaged or lost message is in or was in,
	// without what follows the dot.
	Segment string `json:"segment,omitempty"`
	Text    string `json:"text"`
}

// String returns the defect as one line.
func (d Defect) String() string {
	if d.File != "" {
		return d.File + ": " + d.Text
	}
	s := d.Account
	if s == "" {
		return d.Text
	}
	if d.Mailbox != "" {
		s += " " + d.Mailbox
	}
	if d.UID != 0 {
		s += fmt.Sprintf(" UID %d", d.UID)
	}
	return s + ": " + d.Text
}

// CheckResult says what a check has looked at.
type CheckResult struct {
	Accounts  int   `json:"accounts"`
	Mailboxes int   `json:"mailboxes"`
	Messages  int   `json:"messages"`
	Bytes     int64 `json:"bytes"` // of messages read
	Defects   int   `json:"defects"`
	// Needless counts damaged records that no message needs, as a crash can
	// leave them.
	Needless int `json:"needless,omitempty"`
	// Unnamed counts messages that no mailbox names and that the journal does not know
	// as expunged: deliveries that a crash broke off, or what is left where the end of
	// the index was lost without a trace. A check beside a server does not count them.
	Unnamed int `json:"unnamed,omitempty"`
}

// IndexRequest says which indexes are meant.
type IndexRequest struct {
	User    string `json:"user,omitempty"` // all users where it is empty
	Rebuild bool   `json:"rebuild,omitempty"`
}

// IndexState says how far the text index of an account is. Messages that are not
// in it are looked into by each search; that some hundred wait is as it should
// be.
type IndexState struct {
	User     string `json:"user"`
	Indexed  uint64 `json:"indexed"` // messages
	Waiting  uint64 `json:"waiting"` // messages
	Segments int    `json:"segments"`
	Bytes    int64  `json:"bytes"`
}

// BackupRequest says where a backup goes. The paths are absolute.
type BackupRequest struct {
	Dir      string `json:"dir"`
	Previous string `json:"previous,omitempty"`
	Trust    bool   `json:"trust,omitempty"` // Previous is not read
	Copy     bool   `json:"copy,omitempty"`
}

// BackupResult says what a backup has cost.
type BackupResult struct {
	Files  int   `json:"files"`
	Bytes  int64 `json:"bytes"`
	Copied int64 `json:"copied"` // the rest are links
	// Damaged is how many messages are damaged in the store and so in the backup;
	// Notes say what was found damaged, there or in Previous, and what became of it.
	Damaged int      `json:"damaged,omitempty"`
	Notes   []string `json:"notes,omitempty"`
}

// RestorePlan is what a restore will fill.
type RestorePlan struct {
	User string `json:"user"`
	// Whole says that the account is to be as it was: it must not have any
	// mail. Otherwise each mailbox must be empty or not there.
	Whole     bool             `json:"whole,omitempty"`
	Mailboxes []RestoreMailbox `json:"mailboxes"` // parents first
	// Subscriptions to mailboxes that are not there.
	Subscriptions []string `json:"subscriptions,omitempty"`
}

// RestoreMailbox is a mailbox of a RestorePlan.
type RestoreMailbox struct {
	Name       string   `json:"name"`
	Uses       []string `json:"uses,omitempty"`
	NoSelect   bool     `json:"noSelect,omitempty"` // exists only as a parent
	Subscribed bool     `json:"subscribed,omitempty"`
}

// streamLine is a line of an answer that comes bit by bit; the last one has the
// result or an error.
type streamLine struct {
	Event  *Event          `json:"event,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *errorAnswer    `json:"error,omitempty"`
}

// progressEvery is how often progress is sent.
const progressEvery = 100 * time.Millisecond

// stream answers with events and the result of fn.
func (h handler) stream(fn func(r *http.Request, report func(Event)) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		enc, flush := json.NewEncoder(w), http.NewResponseController(w)
		w.Header().Set("Content-Type", "application/x-ndjson")
		send := func(line streamLine) {
			if err := enc.Encode(line); err != nil {
				cancel() // nobody listens any more
				return
			}
			_ = flush.Flush() // an error shows in the next Encode
		}
		last := time.Time{}
		v, err := fn(r.WithContext(ctx), func(e Event) {
			if e.Defect == nil {
				now := time.Now()
				if now.Sub(last) < progressEvery {
					return
				}
				last = now
			}
			send(streamLine{Event: &e})
		})
		if err == nil {
			var b []byte
			if b, err = json.Marshal(v); err == nil {
				send(streamLine{Result: b})
				return
			}
		}
		h.log.Debug("admin request failed", "path", r.URL.Path, "err", err)
		send(streamLine{Error: &errorAnswer{Error: err.Error(), Kind: uint8(imap.KindOf(err))}})
	}
}

func (h handler) check(r *http.Request, report func(Event)) (any, error) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	return h.s.Check(r.Context(), report)
}

func (h handler) index(r *http.Request, report func(Event)) (any, error) {
	var req IndexRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	return h.s.Index(r.Context(), req, report)
}

func (h handler) backup(r *http.Request, report func(Event)) (any, error) {
	var req BackupRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	// Only when the request is read to its end does the server notice that the
	// client has gone.
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	res, err := h.s.Backup(r.Context(), req, report)
	if err == nil {
		h.log.Info("backup written", "dir", req.Dir, "bytes", res.Bytes, "copied", res.Copied)
	}
	return res, err
}

func (h handler) prepareRestore(r *http.Request) (any, error) {
	var plan RestorePlan
	if err := json.NewDecoder(io.LimitReader(r.Body, maxPlan)).Decode(&plan); err != nil {
		return nil, fmt.Errorf("the request is not understood: %w", err)
	}
	return nil, h.note("restoring", plan.User, h.s.PrepareRestore(r.Context(), plan))
}

// maxPlan bounds a RestorePlan: 10,000 mailboxes with names of 500 bytes fit.
const maxPlan = 64 << 20

// Check implements Service.
func (c *Client) Check(ctx context.Context, report func(Event)) (res CheckResult, err error) {
	err = c.stream(ctx, "/v1/check", struct{}{}, report, &res)
	return res, err
}

// Index implements Service.
func (c *Client) Index(ctx context.Context, req IndexRequest, report func(Event)) (list []IndexState, err error) {
	err = c.stream(ctx, "/v1/index", req, report, &list)
	return list, err
}

// Backup implements Service.
func (c *Client) Backup(ctx context.Context, req BackupRequest, report func(Event)) (res BackupResult, err error) {
	err = c.stream(ctx, "/v1/backup", req, report, &res)
	return res, err
}

// PrepareRestore implements Service.
func (c *Client) PrepareRestore(ctx context.Context, plan RestorePlan) error {
	return c.send(ctx, http.MethodPost, "/v1/restore/prepare", plan, nil)
}

// stream sends a request and passes on the events of its answer.
func (c *Client) stream(ctx context.Context, path string, in any, report func(Event), out any) error {
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	resp, err := c.request(ctx, http.MethodPost, path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var line streamLine
		if err := dec.Decode(&line); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("the running server has broken off its answer (has it been stopped? Then run the command again): %w", err)
		}
		switch {
		case line.Error != nil:
			return &remoteError{line.Error.Error, imap.Kind(line.Error.Kind)}
		case line.Result != nil:
			return json.Unmarshal(line.Result, out)
		case line.Event != nil:
			report(*line.Event)
		}
	}
}
