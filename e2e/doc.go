// Package e2e has real mail programs talk to the real server: the rookery
// binary is built and serves a throw-away folder over TLS on loopback, and
// curl, mbsync, neomutt, Python's imaplib, interimap and others, as Debian
// packages them, must see what they should.
//
// The tests are built with the tag e2e only; `make e2e` installs the programs
// and runs them. A program that is missing fails its test. The package tests
// nothing that a transcript of imaptest can test: what goes wrong here gets a
// transcript first. Start with server_test.go, then mbsync_test.go.
//
// Two environment variables: ROOKERY_BINARY is a binary to test in place of a
// fresh build, and ROOKERY_CORPUS a folder of *.eml files whose messages go
// through the tests of bytes beside those of messages_test.go.
package e2e
