// Package study keeps a search on disk: a directory that survives interruption, kill and power loss, that finds any damage done to it, that
// refuses to be continued under another configuration, and that ends in the same front.json byte for byte.
//
//	config.toml           the frozen configuration
//	log/NNNNNN.ecadlog    every score and a snapshot of every finished generation, append-only and checksummed
//	log/END               where the log ends, while nobody writes to it
//	schedules/HASH.json   the schedules that front.json lists
//	front.json            the result
//	front.svg             the same as a picture
//	run.json              whatever depends on the machine: times, rates
//	LOCK                  held by the process that has the study open; holds its id
//
// A Study is a ga.Log. A score counts once Append has written and synced it. Nothing else is needed to go on: the search is a function of
// configuration and scores, and the snapshots in the log spare it to breed and judge again what it had finished.
//
// # The log
//
// A segment is a header (magic "ECADLOG\n", format version u32, segment number u32, fingerprint [32]byte, CRC32C u32) and records (payload
// length u32, type u8, CRC32C u32 of length, type and payload, then the payload), all little-endian. Record types are in record.go. Every append
// starts with a "synced" record that names its own offset, or follows one; it proves that everything before it had reached the disk. So a bad
// record with a synced record after it is corruption, and an error that names file and offset; without one it is the torn end of an append that
// was never acknowledged, and is dropped. A full segment ends with an "end" record, and its successor is created in one step by rename.
//
// A process that ends in good order writes log/END; it is removed before the next append. While it is there the log must end exactly where it
// says, so that a log that was cut afterwards is not taken for a torn one.
//
// # Other files
//
// The log holds the configuration, and the SHA-256 of every other file before that is written. Verify compares them.
package study
