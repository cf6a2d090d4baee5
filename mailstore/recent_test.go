package mailstore_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/mailstore"
)

// TestRecentIndexes lists what is in memory, the last used first, and reads it again after a
// restart, but for what is gone meanwhile.
func TestRecentIndexes(t *testing.T) {
	ctx := context.Background()
	b := newBench(t, mailstore.Options{})
	for _, user := range []string{"ann", "bob"} {
		a := b.account(t, user)
		for _, box := range []string{"INBOX", "Old"} {
			if box != "INBOX" {
				if _, err := a.Create(ctx, box, nil); err != nil {
					t.Fatal(err)
				}
			}
			appendMail(t, a, box, mail(user))
		}
	}
	if got := b.store.Recent(10); len(got) != 0 {
		t.Errorf("nobody has opened a mailbox, and in memory are %v", got)
	}
	want := []mailstore.Recent{{User: "bob", Mailbox: "Old"}, {User: "ann", Mailbox: "Old"}, {User: "ann", Mailbox: "INBOX"}}
	for i := range want {
		r := want[len(want)-1-i]
		m := open(t, b.account(t, r.User), r.Mailbox)
		if _, err := m.Snapshot(ctx); err != nil {
			t.Fatal(err)
		}
		m.Close()
	}
	list := b.store.Recent(10)
	if diff := cmp.Diff(want, list); diff != "" {
		t.Errorf("in memory (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[:2], b.store.Recent(2)); diff != "" {
		t.Errorf("two of them (-want +got):\n%s", diff)
	}

	b.restart(t)
	if err := b.store.RemoveAccount(ctx, "bob"); err != nil {
		t.Fatal(err)
	}
	list = append([]mailstore.Recent{{User: "ann", Mailbox: "None"}, {User: "", Mailbox: "INBOX"}}, list...)
	if err := b.store.Warm(ctx, list); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]mailstore.Recent{want[2], want[1]}, b.store.Recent(10)); diff != "" {
		t.Errorf("in memory after the restart (-want +got):\n%s", diff)
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if err := b.store.Warm(ctx, list); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended gave %v", err)
	}
}

// TestWarmLeavesRoom checks that what is read ahead takes a part of the memory only.
func TestWarmLeavesRoom(t *testing.T) {
	ctx := context.Background()
	b := newBench(t, mailstore.Options{IndexMemory: 16 << 10})
	a := b.account(t, "ann")
	var list []mailstore.Recent
	for _, box := range []string{"1", "2", "3", "4", "5", "6", "7", "8"} {
		if _, err := a.Create(ctx, box, nil); err != nil {
			t.Fatal(err)
		}
		list = append(list, mailstore.Recent{User: "ann", Mailbox: box})
	}
	b.restart(t)
	if err := b.store.Warm(ctx, list); err != nil {
		t.Fatal(err)
	}
	if got := b.store.Recent(10); len(got) == len(list) {
		t.Error("all were read ahead, into little memory")
	}
}
