// Package lint holds the house rules as tests: what a reviewer would say again
// and again is said by `go test` instead. It has no code of its own, and it
// does not check what gofmt, vet and staticcheck do. Start with tree_test.go;
// each other file is one group of rules, and exceptions stand there with their
// reasons.
package lint
