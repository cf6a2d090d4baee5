package passwd_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/internal/passwd"
)

// bcryptSecret is the hash of "secret" that libxcrypt makes.
const bcryptSecret = "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"

func TestNewFits(t *testing.T) {
	text, err := passwd.New("pässword: with {all}")
	if err != nil {
		t.Fatal(err)
	}
	h, err := passwd.Parse(text)
	if err != nil {
		t.Fatalf("Parse(%q): %v", text, err)
	}
	c := passwd.NewChecker()
	for password, want := range map[string]bool{"pässword: with {all}": true, "password": false, "": false,
		strings.Repeat("x", 5000): false} {
		got, err := c.Check(context.Background(), h, password)
		if err != nil || got != want {
			t.Errorf("Check(%.20q) = %v, %v; want %v", password, got, err, want)
		}
	}
	if other, _ := passwd.New("pässword: with {all}"); other == text {
		t.Error("two hashes of one password are equal: no salt")
	}
	for _, bad := range []string{"", strings.Repeat("x", 4097)} {
		if _, err := passwd.New(bad); err == nil {
			t.Errorf("New of %d bytes: no error", len(bad))
		}
	}
}

func TestSchemes(t *testing.T) {
	// The argon2id hash is the example of the reference tool:
	// echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1
	const argon = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	c := passwd.NewChecker()
	for _, tt := range []struct{ hash, password string }{
		{"{PLAIN}a:b {c} ", "a:b {c} "},
		{"{plain}x", "x"},
		{"{BLF-CRYPT}" + bcryptSecret, "secret"},
		{"{CRYPT}" + strings.Replace(bcryptSecret, "$2y$", "$2b$", 1), "secret"},
		{"{ARGON2ID}" + argon, "password"},
		{"{CRYPT}" + argon, "password"},
	} {
		h, err := passwd.Parse(tt.hash)
		if err != nil {
			t.Errorf("Parse(%q): %v", tt.hash, err)
			continue
		}
		if ok, _ := c.Check(context.Background(), h, tt.password); !ok {
			t.Errorf("%q does not fit %q", tt.password, tt.hash)
		}
		if ok, _ := c.Check(context.Background(), h, tt.password+"x"); ok {
			t.Errorf("%q fits %q", tt.password+"x", tt.hash)
		}
	}
}

func TestRefused(t *testing.T) {
	const salted = "$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	for _, tt := range []struct{ hash, says string }{
		{"secret", "{SCHEME}"},
		{"{PLAIN", "not closed"},
		{"{PLAIN}", "empty"},
		{"{SHA512-CRYPT}$6$x$y", "known schemes"},
		{"{CRYPT}$6$x$y", "not supported"},
		{"{BLF-CRYPT}$2y$05$short", "60 characters"},
		{"{BLF-CRYPT}" + strings.Replace(bcryptSecret, "$05$", "$31$", 1), "cost is 31"},
		{"{ARGON2ID}$argon2i$v=19$m=8,t=1,p=1" + salted, "not an argon2id"},
		{"{ARGON2ID}$argon2id$v=16$m=8,t=1,p=1" + salted, "version"},
		{"{ARGON2ID}$argon2id$v=19$m=8,t=0,p=1" + salted, "above zero"},
		{"{ARGON2ID}$argon2id$v=19$m=8,t=1" + salted, "each once"},
		{"{ARGON2ID}$argon2id$v=19$m=8,m=8,t=1" + salted, "each once"},
		{"{ARGON2ID}$argon2id$v=19$m=4194304,t=1,p=1" + salted, "memory"},
		{"{ARGON2ID}$argon2id$v=19$m=262144,t=1000,p=1" + salted, "busy"},
		{"{ARGON2ID}$argon2id$v=19$m=8,t=1,p=255" + salted, "at most 64"},
		{"{ARGON2ID}$argon2id$v=19$m=8,t=1,p=1$c2$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "salt"},
		{"{ARGON2ID}$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$!!", "key"},
	} {
		_, err := passwd.Parse(tt.hash)
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("Parse(%q): %v; want something about %q", tt.hash, err, tt.says)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	write(t, path, "# people\n\nann:{PLAIN}a:b\r\n  bob@example.org:{BLF-CRYPT}"+bcryptSecret+":1000:1000::/home/bob::\n")
	f, err := passwd.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if f.Len() != 2 {
		t.Fatalf("%d users, want 2", f.Len())
	}
	c := passwd.NewChecker()
	ann, ok := f.Lookup("ann")
	if !ok {
		t.Fatal("ann is missing")
	}
	if ok, _ := c.Check(context.Background(), ann, "a:b"); !ok {
		t.Error("ann's password does not fit")
	}
	if _, ok := f.Lookup("bob@example.org"); !ok {
		t.Error("bob is missing")
	}
	if _, ok := f.Lookup("Ann"); ok {
		t.Error("names are compared without regard to case")
	}
	if ok, err := c.CheckNobody(context.Background(), "eve", "a:b", f.Hashes(), true); ok || err != nil {
		t.Errorf("CheckNobody: %v, %v", ok, err)
	}
}

func TestBadLinesAreAllNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	write(t, path, "ann:{PLAIN}a\nann:{PLAIN}b\nnobody\n:{PLAIN}x\nzoe:{MD5}x\nx\xff:{PLAIN}x\n")
	_, err := passwd.Open(path)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{":2: the user \"ann\" is on line 1", ":3: there is no colon", ":4: there is no name", ":5: user \"zoe\"", ":6: the line is not text"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
	if _, err := passwd.Open(path + ".none"); err == nil || !strings.Contains(err.Error(), path+".none") {
		t.Errorf("a missing file: %v", err)
	}
}

func TestRefresh(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	write(t, path, "ann:{PLAIN}a\n")
	f, err := passwd.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	step := func(wantChanged, wantErr bool) {
		t.Helper()
		now = now.Add(2 * time.Second)
		changed, err := f.Refresh(now)
		if changed != wantChanged || (err != nil) != wantErr {
			t.Errorf("Refresh: %v, %v; want changed %v, error %v", changed, err, wantChanged, wantErr)
		}
	}
	step(false, false)
	write(t, path, "ann:{PLAIN}a\nbob:{PLAIN}b\n")
	step(true, false)
	if f.Len() != 2 {
		t.Errorf("%d users after the change, want 2", f.Len())
	}
	write(t, path, "ann:{PLAIN}a\nbob\n")
	step(true, true)
	step(false, false) // told once
	if f.Len() != 2 {
		t.Errorf("%d users after a bad change, want the former 2", f.Len())
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	step(true, true)
	step(false, false)
	write(t, path, "eve:{PLAIN}e\n")
	step(true, false)
	if _, ok := f.Lookup("eve"); !ok || f.Len() != 1 {
		t.Error("the new file was not read")
	}
}

func TestCheckEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	h, _ := passwd.Parse("{PLAIN}x")
	c := passwd.NewChecker()
	if ok, err := c.Check(ctx, h, "x"); ok && err != nil {
		t.Errorf("Check with an ended context: %v, %v", ok, err)
	}
}

func TestNames(t *testing.T) {
	long := strings.Repeat("x", 256)
	for _, bad := range []string{"", long, "a b", "a\tb", "a\u00a0b", "a:b", "a\x00", "a\u0085", "\xff"} {
		if passwd.CheckName(bad) == nil {
			t.Errorf("CheckName(%q) takes it", bad)
		}
	}
	for _, good := range []string{"ann", "ann@example.org", "jürgen", long[1:], "a.b-c_d+e"} {
		if err := passwd.CheckName(good); err != nil {
			t.Error(err)
		}
	}
	// A file has the same rules.
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte("ann:{PLAIN}x\na b:{PLAIN}x\n"+long+":{PLAIN}x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := passwd.Open(path); err == nil || !strings.Contains(err.Error(), "users:2: the user name \"a b\" has a blank") || !strings.Contains(err.Error(), "users:3: ") {
		t.Errorf("Open: %v", err)
	}
}

func TestByteOrderMark(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte("\ufeffann:{PLAIN}x\r\nbob:{PLAIN}y\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := passwd.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := f.Lookup("ann"); !ok || f.Len() != 2 {
		t.Error("ann is not there")
	}
}

func TestPasswordsThatCannotBeSent(t *testing.T) {
	for _, bad := range []string{"a\x00b", "a\rb", "a\n"} {
		if _, err := passwd.New(bad); err == nil || !strings.Contains(err.Error(), "NUL, CR or LF") {
			t.Errorf("New(%q): %v", bad, err)
		}
	}
}
