package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestCareUnderLoad checks and backs up the real server while clients append,
// flag, move and expunge messages and an MTA delivers. Each check is clean; each
// backup is whole, and what is restored from it is clean.
func TestCareUnderLoad(t *testing.T) {
	dir := t.TempDir()
	k := &killing{t: t, binary: filepath.Join(dir, "rookery"), data: filepath.Join(dir, "data"), users: filepath.Join(dir, "users")}
	k.build()
	if err := os.WriteFile(k.users, []byte("ann:{PLAIN}a\nbob:{PLAIN}b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(want string, args ...string) {
		t.Helper()
		out, err := exec.Command(k.binary, args...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("rookery %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	k.start()
	var wg sync.WaitGroup
	var workers []*worker
	for i := range 6 {
		user, password := "ann", "a"
		if i%3 == 2 {
			user, password = "bob", "b"
		}
		w := &worker{name: "w" + strconv.Itoa(i), user: user, password: password, lmtp: i == 1,
			rng: rand.New(rand.NewPCG(7, uint64(i))), messages: make(map[string]*letter)}
		workers = append(workers, w)
		wg.Go(func() { w.work(k) })
	}
	rounds := 4
	if testing.Short() {
		rounds = 1
	}
	backups := []string{}
	for round := range rounds {
		time.Sleep(200 * time.Millisecond) // for something to happen
		run("clean", "check", "--data", k.data)
		b := filepath.Join(dir, fmt.Sprint("backup", round))
		args := []string{"backup", b, "--data", k.data}
		if round > 0 {
			args = append(args, "--copy", "--previous", backups[round-1])
		}
		run("backup written", args...)
		backups = append(backups, b)
	}
	k.kill()
	wg.Wait()
	done := 0
	for _, w := range workers {
		done += w.done
		if w.wrong != nil {
			t.Errorf("%s: %v", w.name, w.wrong)
		}
	}
	t.Logf("%d commands beside %d checks and backups", done, rounds)
	run("clean", "check", "--data", k.data) // as the kill has left it
	for _, b := range backups {
		run("is whole", "backup", "--verify", b)
		run("has the store", "restore", b, "--data", b+"-restored")
		run("clean", "check", "--data", b+"-restored")
	}
}
