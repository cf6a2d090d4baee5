package daemon

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// certificates holds the certificate that new connections get. Those that are
// open keep theirs when it is replaced.
type certificates struct {
	certFile, keyFile string
	selfSigned        bool
	current           atomic.Pointer[tls.Certificate]
}

// loadCertificates reads the operator's certificate, or makes one in the data
// folder where none is given. It refuses to start with half of a pair.
func loadCertificates(certFile, keyFile, dataDir string, now time.Time) (*certificates, error) {
	switch {
	case certFile != "" && keyFile == "":
		return nil, errors.New("--tls-cert is given without --tls-key: give the file of its private key too")
	case certFile == "" && keyFile != "":
		return nil, errors.New("--tls-key is given without --tls-cert: give the file of its certificate too")
	}
	c := &certificates{certFile: certFile, keyFile: keyFile}
	if certFile == "" {
		c.selfSigned = true
		c.certFile, c.keyFile = filepath.Join(dataDir, "tls-cert.pem"), filepath.Join(dataDir, "tls-key.pem")
		if err := c.ensureSelfSigned(now); err != nil {
			return nil, err
		}
	}
	return c, c.reload()
}

// reload reads the files again; what was there stays when they are no good.
func (c *certificates) reload() error {
	for what, path := range map[string]string{"certificate": c.certFile, "private key": c.keyFile} {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("cannot read the TLS %s: %w", what, err)
		}
	}
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("cannot use the TLS certificate %s with the key %s: %w", c.certFile, c.keyFile, err)
	}
	c.current.Store(&cert)
	return nil
}

// config returns the TLS settings of all listeners: TLS 1.2 and later with the
// library's choice of ciphers.
func (c *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"imap"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}

// fingerprint returns the SHA-256 of the certificate, as mail programs show it.
func (c *certificates) fingerprint() string {
	sum := sha256.Sum256(c.current.Load().Certificate[0])
	return hex.EncodeToString(sum[:])
}

// selfSignedLife is how long a certificate of our own is valid; it is replaced
// when a month is left.
const (
	selfSignedLife  = 5 * 365 * 24 * time.Hour
	selfSignedRenew = 30 * 24 * time.Hour
)

// ensureSelfSigned makes a certificate unless there is one that still serves:
// mail programs remember the one that a person has once accepted.
func (c *certificates) ensureSelfSigned(now time.Time) error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err == nil && pair.Leaf != nil && now.Before(pair.Leaf.NotAfter.Add(-selfSignedRenew)) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot use the self-signed certificate %s: %w; delete it and its key %s to have a new one made", c.certFile, err, c.keyFile)
	}
	cert, key, err := selfSigned(now)
	if err != nil {
		return fmt.Errorf("cannot make a self-signed certificate: %w", err)
	}
	// The key goes first: a certificate without its key would be refused.
	if err := writeFile(c.keyFile, key); err != nil {
		return fmt.Errorf("cannot keep the self-signed certificate: %w", err)
	}
	if err := writeFile(c.certFile, cert); err != nil {
		return fmt.Errorf("cannot keep the self-signed certificate: %w", err)
	}
	return nil
}

func selfSigned(now time.Time) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	names := []string{"localhost"}
	if host, err := os.Hostname(); err == nil && host != "" && host != "localhost" {
		names = append(names, host)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: names[len(names)-1], Organization: []string{"Rookery (self-signed)"}},
		NotBefore:    now.Add(-time.Hour), NotAfter: now.Add(selfSignedLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, // so that a program can be told to trust it
		DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), nil
}

// writeFile writes a file for the owner only: whole, or not at all.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
