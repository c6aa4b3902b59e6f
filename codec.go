package flagstone

import (
	"encoding"
	"encoding/json"
)

// Codec turns values into bytes and back, for Typed. It may be used concurrently.
type Codec[T any] interface {
	// Append appends the bytes of v to dst and returns the result.
	Append(dst []byte, v T) ([]byte, error)
	// Decode returns the value that Append made the bytes from. It must not keep
	// data, nor a part of it, and must not change it.
	Decode(data []byte) (T, error)
}

// JSON returns the codec of encoding/json.
func JSON[T any]() Codec[T] { return jsonCodec[T]{} }

type jsonCodec[T any] struct{}

func (jsonCodec[T]) Append(dst []byte, v T) ([]byte, error) {
	b, err := json.Marshal(v)
	return append(dst, b...), err
}

func (jsonCodec[T]) Decode(data []byte) (v T, err error) {
	err = json.Unmarshal(data, &v)
	return v, err
}

// Raw returns the codec of strings and byte slices that are stored as they are. A
// nil slice comes back as an empty one.
func Raw[T ~string | ~[]byte]() Codec[T] { return rawCodec[T]{} }

type rawCodec[T ~string | ~[]byte] struct{}

func (rawCodec[T]) Append(dst []byte, v T) ([]byte, error) { return append(dst, v...), nil }
func (rawCodec[T]) Decode(data []byte) (T, error)          { return T(string(data)), nil }

// Binary returns the codec of types that encode themselves, like time.Time or
// netip.Addr: Binary[time.Time](). AppendBinary is used where there is one
// (encoding.BinaryAppender).
func Binary[T any, P interface {
	*T
	encoding.BinaryMarshaler
	encoding.BinaryUnmarshaler
}]() Codec[T] {
	return binaryCodec[T, P]{}
}

type binaryCodec[T any, P interface {
	*T
	encoding.BinaryMarshaler
	encoding.BinaryUnmarshaler
}] struct{}

func (binaryCodec[T, P]) Append(dst []byte, v T) ([]byte, error) {
	if a, ok := any(P(&v)).(encoding.BinaryAppender); ok {
		return a.AppendBinary(dst)
	}
	b, err := P(&v).MarshalBinary()
	return append(dst, b...), err
}

func (binaryCodec[T, P]) Decode(data []byte) (v T, err error) {
	err = P(&v).UnmarshalBinary(data)
	return v, err
}
