// Package safetensors reads and writes the safetensors file format: an 8-byte little-endian header length, a JSON header
// that names every tensor, and the tensors' bytes, row-major and little-endian, without gaps.
//
// A [File] is one file. A [Weights] is all files of one model part: a single file or the shards that an index file lists.
// Both hand out [Tensor] values whose Data points into the mapped or loaded file: nothing is copied, and the data must not
// be used after Close. A [Source] is the folder they come from, a directory on disk (files are mapped) or any fs.FS, such
// as an embedded one, so that built-in and released models load through the same code.
//
// Files are untrusted input. Every rule of the format is checked when a file is opened: header length (at most 100 MB and
// at most the file), JSON syntax, UTF-8, duplicate names, unknown data types, shapes whose size overflows, offsets that
// leave holes, overlap, or end elsewhere than the file ends. The index kept for a file is smaller than its header, so
// opening a mapped file never allocates more than the file's own size.
//
// Format: github.com/huggingface/safetensors, README.md and safetensors/src/tensor.rs.
package safetensors
