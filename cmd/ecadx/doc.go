// Command ecadx searches caching schedules for diffusion transformers, runs models under them, and measures what they save. The package wires
// the libraries of this module together: it parses options into typed structs at the edge, calls the libraries, and maps their errors to
// one line and an exit code.
package main
