// Package wire encodes and decodes the bytes that sdiff stores and sends:
// msgpack, of which it uses unsigned integers, byte strings, text, booleans,
// nil and arrays, and one encoding for each value.
//
// A [Writer] appends values to a byte slice. A [Reader] first checks the whole
// of its input and only then hands out values, so that code which reads never
// meets a length that the input does not hold.
//
// # Why not msgpack's own decoding
//
// The msgpack library allocates what a length says before it has seen the
// bytes, recurses as deep as the input nests, and cuts integers to fit. Here
// its low-level Encoder and Decoder see checked bytes only, and byte strings of
// up to 255 bytes, of which the stream is made, are read without them. The
// check needs no recursion and no allocation, and refuses
//
//   - an integer, length or count that is not in its shortest form,
//   - negative integers, floats, maps and extension types,
//   - text that is not UTF-8,
//   - a length or count greater than the bytes that are left,
//   - arrays nested deeper, or with more elements in all, than [Limits] allow.
//
// So whatever a Reader accepts, a Writer writes again byte for byte.
//
// # Concurrency
//
// Writers and Readers are not safe for concurrent use. Nothing here does I/O,
// starts a goroutine or reads a clock.
package wire
