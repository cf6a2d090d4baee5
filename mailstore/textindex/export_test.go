package textindex

import (
	"encoding/binary"
	"hash/crc32"
)

// Seal appends the checksum that a page ends with.
func Seal(body []byte) []byte {
	return binary.LittleEndian.AppendUint32(body[:len(body):len(body)], crc32.Checksum(body, castagnoli))
}
