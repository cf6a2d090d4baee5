package admin_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/admin"
)

func TestCare(t *testing.T) {
	ctx := context.Background()
	d := &desk{}
	c := serve(t, t.TempDir(), d)
	var events []string
	res, err := c.Check(ctx, func(e admin.Event) {
		if e.Defect != nil {
			events = append(events, e.Defect.String())
		} else if e.Done != 1 || e.Total != 2 {
			t.Errorf("progress %+v", e)
		}
	})
	if err != nil || res != (admin.CheckResult{Messages: 5, Defects: 3}) {
		t.Errorf("Check: %+v, %v", res, err)
	}
	if diff := cmp.Diff([]string{"ann Box: is broken", "ann Box UID 1: is broken", "ann Box UID 2: is broken"}, events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	req := admin.BackupRequest{Dir: "/b/c", Previous: "/b/a", Copy: true}
	if res, err := c.Backup(ctx, req, nil); err != nil || !cmp.Equal(res, admin.BackupResult{Files: 2, Bytes: 3, Copied: 1}) {
		t.Errorf("Backup: %+v, %v", res, err)
	}
	index := admin.IndexRequest{User: "ann", Rebuild: true}
	if res, err := c.Index(ctx, index, nil); err != nil || len(res) != 1 || res[0] != (admin.IndexState{User: "ann", Indexed: 2, Waiting: 3}) {
		t.Errorf("Index: %+v, %v", res, err)
	}
	plan := admin.RestorePlan{User: "ann", Whole: true, Subscriptions: []string{"x"},
		Mailboxes: []admin.RestoreMailbox{{Name: "Ä", Uses: []string{"\\Sent"}, NoSelect: true, Subscribed: true}}}
	if err := c.PrepareRestore(ctx, plan); err != nil {
		t.Error(err)
	}
	want := []string{"backup {Dir:/b/c Previous:/b/a Trust:false Copy:true}", "index {User:ann Rebuild:true}", "restore {User:ann Whole:true Mailboxes:[{Name:Ä Uses:[\\Sent] NoSelect:true Subscribed:true}] Subscriptions:[x]}"}
	if diff := cmp.Diff(want, d.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}

	d.fail = imap.E("check", imap.Unavailable, errors.New("no"))
	if _, err := c.Check(ctx, func(admin.Event) {}); imap.KindOf(err) != imap.Unavailable || err.Error() != d.fail.Error() {
		t.Errorf("an error after events came as %v", err)
	}
}

// TestCareStops: work ends when the command that has asked for it does.
func TestCareStops(t *testing.T) {
	d := &desk{}
	dir := t.TempDir()
	ln, cleanup, err := admin.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer cleanup()
	srv := &http.Server{Handler: admin.Handler(d, slog.New(slog.DiscardHandler))}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	c, err := admin.Dial(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	asked := make(chan error, 1)
	go func() {
		_, err := c.Backup(ctx, admin.BackupRequest{Dir: "/slow"}, nil)
		asked <- err
	}()
	cancel()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Errorf("the command got %v", err)
	}
	c.Close()
	if err := srv.Shutdown(context.Background()); err != nil { // waits for the work
		t.Error(err)
	}
	<-done
}
