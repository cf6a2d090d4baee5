package daemon

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSelfSignedIsKept(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	load := func(now time.Time) *certificates {
		t.Helper()
		c, err := loadCertificates("", "", dir, now)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := load(now)
	pool := x509.NewCertPool()
	pool.AddCert(first.current.Load().Leaf)
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		if _, err := first.current.Load().Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: pool}); err != nil {
			t.Errorf("for %s: %v", name, err)
		}
	}
	for _, name := range []string{"tls-cert.pem", "tls-key.pem"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if again := load(now.Add(selfSignedLife / 2)); again.fingerprint() != first.fingerprint() {
		t.Error("another certificate at the second start")
	}
	if last := load(now.Add(selfSignedLife - selfSignedRenew/2)); last.fingerprint() == first.fingerprint() {
		t.Error("no new certificate when the old one is about to end")
	}
	if err := os.WriteFile(filepath.Join(dir, "tls-cert.pem"), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadCertificates("", "", dir, now); err == nil || !strings.Contains(err.Error(), "delete it") {
		t.Errorf("a damaged certificate: %v", err)
	}
}

func TestReloadKeepsWhatWorks(t *testing.T) {
	dir, own := t.TempDir(), t.TempDir()
	made, err := loadCertificates("", "", dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, key := filepath.Join(own, "c.pem"), filepath.Join(own, "k.pem")
	copyFile(t, made.certFile, cert)
	copyFile(t, made.keyFile, key)
	c, err := loadCertificates(cert, key, t.TempDir(), time.Now())
	if err != nil || c.selfSigned {
		t.Fatalf("self-signed: %v, %v", c.selfSigned, err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if err := c.reload(); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("reload without the key: %v", err)
	}
	if got, err := c.config().GetCertificate(nil); err != nil || got == nil || c.fingerprint() != made.fingerprint() {
		t.Errorf("the certificate is gone: %v, %v", got, err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAddresses(t *testing.T) {
	for addr, ok := range map[string]bool{
		"127.0.0.1:1143": true, ":143": true, "[::1]:0": true, "localhost:imaps": true,
		"1143": false, "127.0.0.1": false, "127.0.0.1:": false, "host:99999": false, "host:nosuchport": false, "a:b:c": false,
	} {
		if err := checkAddress(addr); (err == nil) != ok {
			t.Errorf("checkAddress(%q): %v", addr, err)
		}
	}
	for addr, want := range map[string]bool{
		"127.0.0.1:1": true, "[::1]:1": true, "localhost:1": true, "unix:/x": true, "127.8.8.8:1": true,
		":1": false, "0.0.0.0:1": false, "192.0.2.1:1": false, "example.org:1": false,
	} {
		if got := isLoopback(addr); got != want {
			t.Errorf("isLoopback(%q) = %v", addr, got)
		}
	}
}
