// Package tokenizer turns text into token ids: of a sentencepiece unigram model, which is what T5 and so PixArt and FLUX use,
// and of CLIP's byte-pair encoding ([BPE]), of which FLUX's pooled embedding is made.
//
// A [Unigram] is built from the bytes of spiece.model and gives the ids that the sentencepiece library gives, for every
// input: the precompiled normalisation table (nmt_nfkc), white space removal, the dummy prefix, Viterbi in the library's
// float32 arithmetic, merged unknowns, user-defined symbols and byte fallback are all here.
//
// Like the library, and unlike the transformers wrapper around it, it treats the text of special tokens ("</s>",
// "<extra_id_0>") as ordinary text.
//
// Model files are untrusted input: every length, offset and reference is checked, nothing is allocated that the file does
// not justify (the index of a model is at most its size plus 1 MiB), and encoding takes time linear in the text.
//
// Source: google/sentencepiece, src/sentencepiece_model.proto, normalizer.cc, unigram_model.cc (EncodeOptimized),
// sentencepiece_processor.cc; the wheel of release 0.2.3 where it differs; double arrays: s-yata/darts-clone.
package tokenizer
