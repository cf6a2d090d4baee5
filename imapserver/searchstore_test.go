package imapserver_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"

	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imapstore"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/memkv"
	"github.com/rookery-mail/rookery/memory"
)

// foreignMail makes a message of few words, in some charset.
func foreignMail(rnd *rand.Rand) string {
	words := strings.Fields("straße Größe ÉCOLE naïve abc ABCD bcde zebra 日本語 日本 привет łąka")
	text := func(n int) string {
		var list []string
		for range 1 + rnd.IntN(n) {
			list = append(list, words[rnd.IntN(len(words))])
		}
		return strings.Join(list, []string{" ", "", "\r\n"}[rnd.IntN(3)])
	}
	charsets := []string{"utf-8", "iso-8859-1", "koi8-r", "iso-2022-jp"}
	encodings := []encoding.Encoding{encoding.Nop, charmap.ISO8859_1, charmap.KOI8R, japanese.ISO2022JP}
	i := rnd.IntN(len(charsets))
	body, err := encoding.ReplaceUnsupported(encodings[i].NewEncoder()).String(text(30))
	if err != nil {
		panic(err)
	}
	subject := strings.ReplaceAll(text(4), "\r\n", " ")
	return fmt.Sprintf("From: u%d@example.org\r\nSubject: =?utf-8?B?%s?=\r\nContent-Type: text/plain; charset=%s\r\nContent-Transfer-Encoding: base64\r\n\r\n%s\r\n",
		rnd.IntN(9), base64.StdEncoding.EncodeToString([]byte(subject)), charsets[i], base64.StdEncoding.EncodeToString([]byte(body)))
}

// foreignProgram makes keys about words, or parts of them, in any case.
func foreignProgram(rnd *rand.Rand, depth int) string {
	switch {
	case depth > 0 && rnd.IntN(4) == 0:
		return "NOT " + foreignProgram(rnd, depth-1)
	case depth > 0 && rnd.IntN(3) == 0:
		return "OR " + foreignProgram(rnd, depth-1) + " " + foreignProgram(rnd, depth-1)
	case depth > 0 && rnd.IntN(2) == 0:
		return "(" + foreignProgram(rnd, depth-1) + " " + foreignProgram(rnd, depth-1) + ")"
	}
	parts := strings.Fields("strasse STRASSE aße größe RÖSS école cole Naïv abc abca CDE zebra a本 日本 本 本語 ПРИ вет Łą ä zzz")
	word := parts[rnd.IntN(len(parts))]
	key := []string{"BODY", "TEXT", "SUBJECT", "HEADER Subject", "HEADER Content-Type"}[rnd.IntN(5)]
	return fmt.Sprintf("%s {%d+}\r\n%s", key, len(word), word)
}

// TestSearchStoreAgrees: a store with indexes finds what a model without any
// does, whatever has happened to its messages and its indexes.
func TestSearchStoreAgrees(t *testing.T) {
	ctx := context.Background()
	rnd := rand.New(rand.NewPCG(4, 2))
	kv, blobs := memkv.NewKV(), memkv.NewBlobs()
	opts := mailstore.Options{Logger: quiet(), TextBatch: 16, ColumnRows: 16}
	var store *mailstore.Store
	var with *client
	begin := func() {
		var err error
		if store, err = mailstore.Open(ctx, kv, blobs, opts); err != nil {
			t.Fatal(err)
		}
		with = selected(t, newServer(t, imapstore.New(store), imapserver.Options{}))
	}
	end := func() {
		with.ok("LOGOUT")
		if err := store.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
	begin()
	plain := selected(t, newServer(t, overMemory(t, memory.New()), imapserver.Options{}))
	both := func(command string) {
		plain.ok(command)
		with.ok(command)
	}
	steps := 40
	if testing.Short() {
		steps = 12
	}
	messages := 0
	for step := range steps {
		switch n := rnd.IntN(10); {
		case step == 0 || n < 3:
			for range 60 {
				raw := foreignMail(rnd)
				both(fmt.Sprintf("APPEND INBOX {%d+}\r\n%s", len(raw), raw))
				messages++
			}
		case n < 5 && messages > 300:
			first := 1 + rnd.IntN(messages-200)
			both(fmt.Sprintf(`STORE %d:%d +FLAGS.SILENT (\Deleted)`, first, first+150))
			both("EXPUNGE")
			messages -= 151
		case n < 6:
			first := 1 + rnd.IntN(messages)
			last := min(messages, first+20)
			both(fmt.Sprintf("COPY %d:%d INBOX", first, last))
			messages += last - first + 1
		case n < 7:
			end()
			begin()
		case n < 8:
			a, err := store.Account(ctx, "ann")
			if err != nil {
				t.Fatal(err)
			}
			a.RebuildIndex()
		}
		both("NOOP")
		for range 15 {
			program := "SEARCH CHARSET UTF-8 " + foreignProgram(rnd, 3)
			want, got := plain.ok(program), with.ok(program)
			if !slices.Equal(want, got) {
				t.Fatalf("step %d, %d messages: %q\nfinds %q\nwant  %q", step, messages, program, got, want)
			}
		}
	}
	end()
}
