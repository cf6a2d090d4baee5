package imapserver

import (
	"encoding/base64"
	"iter"
	"strconv"
)

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

func appendBase64(dst, data []byte) []byte { return base64.StdEncoding.AppendEncode(dst, data) }

func pull[T any](seq iter.Seq[T]) (func() (T, bool), func()) { return iter.Pull(seq) }
