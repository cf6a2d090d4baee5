package passwd

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"runtime"

	"golang.org/x/sync/semaphore"
)

// A Checker checks passwords within a budget of memory and processors: with
// argon2 every check takes megabytes, and who reaches the port decides how many
// are asked for. It is safe for concurrent use.
type Checker struct {
	memory *semaphore.Weighted // KiB
	cpu    *semaphore.Weighted
	secret [32]byte
	spare  Hash
}

// checkMemory is what all checks together may take: the most that one hash may
// ask for, so that every one that Parse accepts can be checked.
const checkMemory = maxArgonMemory + 16

// NewChecker returns a Checker whose checks take at most 256 MiB and one
// processor less than there are, so that mail goes on being served.
func NewChecker() *Checker {
	c := &Checker{
		memory: semaphore.NewWeighted(checkMemory),
		cpu:    semaphore.NewWeighted(int64(max(1, runtime.GOMAXPROCS(0)-1))),
		spare: Hash{scheme: schemeArgon2id, memory: newMemory, passes: newPasses, lanes: 1,
			salt: make([]byte, newSalt), digest: make([]byte, newKey)},
	}
	rand.Read(c.secret[:]) // never fails: see crypto/rand
	return c
}

// Check reports whether password fits h. It waits for its share of the budget;
// the error is that of ctx when it ended first.
func (c *Checker) Check(ctx context.Context, h Hash, password string) (bool, error) {
	if err := c.memory.Acquire(ctx, h.cost()); err != nil {
		return false, err
	}
	defer c.memory.Release(h.cost())
	if err := c.cpu.Acquire(ctx, 1); err != nil {
		return false, err
	}
	defer c.cpu.Release(1)
	return h.fits(password), nil
}

// CheckNobody spends the time that Check would spend if there were a user of
// this name, and reports false. Which hash it takes for a model depends on the
// name and on a secret, so that one name always costs the same and names that
// do not exist look, in their timing, like those that do. The models are
// hashes, to which ours adds one that New would make; with none of either, it
// takes that too.
func (c *Checker) CheckNobody(ctx context.Context, name, password string, models []Hash, ours bool) (bool, error) {
	n := uint64(len(models))
	if ours || n == 0 {
		n++
	}
	mac := hmac.New(sha256.New, c.secret[:])
	mac.Write([]byte(name))
	h := c.spare
	if i := binary.BigEndian.Uint64(mac.Sum(nil)) % n; i < uint64(len(models)) {
		h = models[i]
	}
	_, err := c.Check(ctx, h, password)
	return false, err
}
